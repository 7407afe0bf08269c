# Makes the template of the unit: sed -f systemd/instance.sed systemd/driftd.service >systemd/driftd@.service
1i\
# One service per configuration: driftd@NAME reads /etc/driftd/NAME.toml and owns /var/lib/driftd-NAME, which that file must\
# name as its [state] directory, and listens where its [http] says, each at a port of its own. NAME: letters, digits, - and _,\
# at most 24. Made from driftd.service by instance.sed.
s,^\(Description=driftd\):,\1 (%i):,
s,/etc/driftd/driftd\.\(toml\|env\),/etc/driftd/%i.\1,
s,^\(User\|StateDirectory\|CacheDirectory\|RuntimeDirectory\)=driftd$,\1=driftd-%i,
s,systemctl edit driftd,systemctl edit driftd@NAME,

# Boots the systemd of this machine in a container, which runs package.sh in the directory $2 with the package $1. It
# writes what that prints to $2/output. The exit status is 3 if the container does not boot as far as that. It must run
# in a mount namespace of its own: see TestReleasePackage.
set -e
mount -t tmpfs none /run
mount -t tmpfs none /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
cd /mnt/root
rm -rf srv tmp/* etc/machine-id
mkdir srv
cp -r "$1" "$2/package.sh" "$2/formats" srv/
# The container has the units of the package, and as few others as possible.
rm -rf etc/systemd/system/*.wants
for unit in systemd-networkd-wait-online NetworkManager-wait-online; do # it has no network but loopback
    ln -sf /dev/null "etc/systemd/system/$unit.service"
done
cat >etc/systemd/system/package-test.service <<'END'
[Service]
Type=oneshot
WorkingDirectory=/srv
Environment=HOME=/root
ExecStart=timeout 90 /bin/bash /srv/package.sh
StandardOutput=file:/srv/output
StandardError=inherit
ExecStopPost=systemctl poweroff --force
END
mkdir -p etc/systemd/system/multi-user.target.wants
ln -s ../package-test.service etc/systemd/system/multi-user.target.wants/
echo '127.0.0.1 localhost hub.example' >etc/hosts
timeout 120 systemd-nspawn --directory=. --boot --register=no --keep-unit --private-network --link-journal=no \
    --console=read-only </dev/null || true
[ -e srv/output ] || exit 3
cp srv/output "$2/output"

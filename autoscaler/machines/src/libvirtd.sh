# The first process of a private libvirtd's namespaces: puts the directories of "$1" in the place of the host's, and
# keeps a libvirtd running, as systemd does. With "no-kvm" as "$2" the host has no KVM for it.
set -e
mount -t proc proc /proc
[ "$2" != no-kvm ] || [ ! -e /dev/kvm ] || mount --bind /dev/null /dev/kvm
for part in etc run lib log cache; do
    case $part in
        etc) place=/etc/libvirt ;;
        run) place=/run/libvirt ;;
        *) place=/var/$part/libvirt ;;
    esac
    mount --bind "$1/$part" "$place"
done
while :; do
    libvirtd --config /etc/libvirt/libvirtd.conf --pid-file /run/libvirt/libvirtd.pid </dev/null || :
    sleep 0.2
done

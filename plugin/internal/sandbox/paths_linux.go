package sandbox

// What every program may read: programs and libraries, interpreters' own files,
// certificates, names and the time zone. Nothing of it is a user's own.
var readPaths = []string{
	"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store",
	"/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.preload", "/etc/alternatives",
	"/etc/localtime", "/etc/timezone", "/etc/os-release", "/etc/locale.alias", "/etc/mime.types",
	"/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/crypto-policies", "/etc/python3",
	"/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/hosts", "/etc/host.conf", "/etc/gai.conf",
	"/etc/services", "/etc/protocols",
	"/sys/devices/system/cpu", "/sys/kernel/mm/transparent_hugepage", "/sys/fs/cgroup",
}

// networkPaths are those of names on the network; systemd-resolved keeps what
// /etc/resolv.conf names in /run.
var networkPaths = []string{"/etc/resolv.conf", "/run/systemd/resolve"}

// procPaths are what a program may read of /proc where that is the machine's
// and not its own: of processes, itself only.
var procPaths = []string{
	"/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/uptime", "/proc/loadavg", "/proc/version",
	"/proc/filesystems", "/proc/sys/vm", "/proc/sys/kernel/osrelease", "/proc/sys/kernel/pid_max",
	"/proc/sys/kernel/threads-max", "/proc/sys/net/core/somaxconn",
}

// devices may be read and written.
var devices = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}

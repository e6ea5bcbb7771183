package sandbox

import "encoding/json"

// Layer is one thing that stands between a program and the rest of the machine.
type Layer string

// The layers, in the order in which they are put on and shown.
const (
	User         Layer = "user-namespace"    // of its own; what the next three need without root
	Net          Layer = "network-namespace" // of its own, with no network in it
	IPC          Layer = "ipc-namespace"     // no System V IPC, no message queues of others
	PID          Layer = "pid-namespace"     // sees and signals itself only; ends as a whole; /proc of its own
	Limits       Layer = "rlimits"
	Capabilities Layer = "capabilities" // none, and none to be had
	NoNewPrivs   Layer = "no-new-privs" // no setuid program helps
	Files        Layer = "landlock-files"
	Ports        Layer = "landlock-network" // no TCP, and no UDP where the kernel can
	Scope        Layer = "landlock-scope"   // no signal, no abstract socket to the outside
	Calls        Layer = "seccomp"
)

// All are the layers that a kernel may or may not allow.
var All = []Layer{User, Net, IPC, PID, Limits, Capabilities, NoNewPrivs, Files, Ports, Scope, Calls}

// Spec says what is started and with what around it.
type Spec struct {
	Path string // of the program
	Name string // its argv[0]
	// Sum is the SHA-256 that the program must have, in hexadecimal: then a sealed
	// copy of it is started. Empty: whatever Path is.
	Sum string
	// Layers are put on, all of them, or the program does not start.
	Layers []Layer
	// ABI is the version of Landlock that Probe found.
	ABI int
	// Read and Write are the paths that it may use beside those of every program
	// (paths.go) and Path itself; what is not there is passed over.
	Read, Write []string
	// Network leaves out what keeps it from the network.
	Network bool
	// OpenFiles and Processes bound what it has at once; threads are processes.
	OpenFiles, Processes uint64

	probe bool
}

// ExitFailed is the exit code of a process that could not put on a layer or
// start the program. One line on its standard error says why.
const ExitFailed = 120

// argv0 tells the shim that it is one; the specification is argv[1].
const argv0 = "parley-sandbox"

// wire is Spec as it travels: in the arguments, so that environment and
// descriptors are the program's alone.
type wire struct {
	Spec
	Probe bool
}

func (s *Spec) encode() (string, error) {
	b, err := json.Marshal(wire{*s, s.probe})
	return string(b), err
}

func decode(arg string) (*Spec, error) {
	var w wire
	err := json.Unmarshal([]byte(arg), &w)
	w.Spec.probe = w.Probe
	return &w.Spec, err
}

func (s *Spec) has(l Layer) bool {
	if s.Network && (l == Net || l == Ports) {
		return false
	}
	for _, have := range s.Layers {
		if have == l {
			return true
		}
	}
	return false
}

// Result is what Probe found of one layer.
type Result struct {
	Layer  Layer
	On     bool
	Detail string // how, or why not
}

// Kernel is what this machine allows.
type Kernel struct {
	Results []Result // one for each of All
	ABI     int      // of Landlock; 0 without
}

// Works are the layers that can be asked for.
func (k *Kernel) Works() (works []Layer) {
	for _, r := range k.Results {
		if r.On {
			works = append(works, r.Layer)
		}
	}
	return works
}

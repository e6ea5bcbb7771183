package sandbox

import (
	"errors"
	"fmt"
	"os"

	"github.com/landlock-lsm/go-landlock/landlock"
	lowlevel "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// versions of Landlock, by ABI. What a kernel has is asked once, by Probe; from
// then on nothing less will do.
var versions = []landlock.Config{{}, landlock.V1, landlock.V2, landlock.V3, landlock.V4, landlock.V5, landlock.V6,
	landlock.V7, landlock.V8, landlock.V9, landlock.V10, landlock.V11}

// Landlock's ABIs by what they brought.
const (
	abiRefer   = 2
	abiPorts   = 4  // Linux 6.7
	abiScope   = 6  // Linux 6.12
	abiSockets = 9  // pathname sockets
	abiUDP     = 10 // beside TCP
)

// landlockABI is the newest that kernel and library both know; 0 for none.
func landlockABI() int {
	v, err := lowlevel.LandlockGetABIVersion()
	if err != nil {
		return 0
	}
	return min(v, len(versions)-1)
}

func version(s *Spec, least int) (landlock.Config, error) {
	if s.ABI < least || s.ABI >= len(versions) {
		return landlock.Config{}, fmt.Errorf("the kernel has Landlock's ABI %d, %d needed", s.ABI, least)
	}
	return versions[s.ABI], nil
}

func landlockPorts(s *Spec) error {
	v, err := version(s, abiPorts)
	if err != nil {
		return err
	}
	return v.RestrictNet()
}

func landlockScope(s *Spec) error {
	v, err := version(s, abiScope)
	if err != nil {
		return err
	}
	return v.RestrictScoped()
}

// landlockFiles leaves the program the paths of every program, itself, and what
// the specification names.
func landlockFiles(s *Spec) error {
	v, err := version(s, 1)
	if err != nil {
		return err
	}
	read := append(append([]string{}, readPaths...), s.Read...)
	if s.Network {
		read = append(read, networkPaths...)
	}
	if s.has(PID) {
		read = append(read, "/proc") // its own
	} else {
		read = append(read, procPaths...)
	}
	var rules []landlock.Rule
	for _, p := range read {
		if r, ok := readRule(p); ok {
			rules = append(rules, r)
		}
	}
	for _, p := range append(append([]string{}, devices...), s.Write...) {
		if r, ok := writeRule(p, s.ABI); ok {
			rules = append(rules, r)
		}
	}
	if s.Path != "" {
		rules = append(rules, landlock.ROFiles(s.Path)) // reading includes execution
	}
	return v.RestrictPaths(rules...)
}

// readRule allows to read what is at a path, and to execute it. There is none
// for what is not there or can't be reached anyway.
func readRule(path string) (landlock.FSRule, bool) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return landlock.FSRule{}, false
	case info.IsDir():
		return landlock.RODirs(path), true
	}
	return landlock.ROFiles(path), true
}

func writeRule(path string, abi int) (landlock.FSRule, bool) {
	info, err := os.Stat(path)
	if err != nil {
		return landlock.FSRule{}, false
	}
	if !info.IsDir() {
		return landlock.RWFiles(path), true
	}
	r := landlock.RWDirs(path)
	if abi >= abiRefer {
		r = r.WithRefer()
	}
	if abi >= abiSockets {
		r = r.WithResolveUnix()
	}
	return r, true
}

// landlockDetail says what of a layer this ABI has.
func landlockDetail(l Layer, abi int) string {
	text := fmt.Sprintf("ABI %d", abi)
	switch {
	case l == Ports && abi < abiUDP:
		text += ": TCP; the kernel can't do it for UDP"
	case l == Files && abi < abiSockets:
		text += ": not for connections to sockets that are files"
	}
	return text
}

var errNoLandlock = errors.New("the kernel has no Landlock, or it is off (boot parameter lsm=)")

//go:build netns

package gobgp

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/heraldlb/herald/internal/testutil/netns"
)

const (
	// aloneEnv marks a process that runs one test of many.
	aloneEnv = "HERALD_TEST_ALONE"
	// sideBySide is how many tests run at a time. They mostly wait for
	// connections, so many more than there are processors.
	sideBySide = 10
)

// TestMain runs every test in a process of its own, a few side by side: each then
// has a node of its own, with its own ports and interfaces, and the library's
// package variables for itself.
func TestMain(m *testing.M) {
	flag.Parse()
	if runGoBGPPeer() {
		return
	}
	names := several()
	if len(names) < 2 {
		os.Exit(netns.Main(m))
	}
	ok := runEach(names)
	if !ok {
		fmt.Println("FAIL")
		os.Exit(1)
	}
	fmt.Println("PASS")
}

// several are the tests to run, each in a process of its own; none if this is
// such a process, or if what is asked for is one matter: a benchmark, a fuzz
// target, a list, a profile, a part of a test.
func several() []string {
	if os.Getenv(aloneEnv) != "" {
		return nil
	}
	for _, one := range []string{"bench", "fuzz", "list", "cpuprofile", "memprofile", "coverprofile", "trace", "blockprofile", "mutexprofile"} {
		if flag.Lookup("test."+one).Value.String() != "" {
			return nil
		}
	}
	pattern := flag.Lookup("test.run").Value.String()
	if strings.Contains(pattern, "/") {
		return nil
	}
	list := exec.Command("/proc/self/exe", "-test.list", pattern)
	if pattern == "" {
		list.Args[2] = "."
	}
	// The race detector makes every process wait for a second at its end.
	list.Env = append(os.Environ(), aloneEnv+"=1", "GORACE=atexit_sleep_ms=0")
	out, err := list.Output()
	if err != nil {
		fmt.Fprintf(os.Stderr, "list the tests: %v\n", err)
		return nil
	}
	var names []string
	for name := range strings.Lines(string(out)) {
		if strings.HasPrefix(name, "Test") {
			names = append(names, strings.TrimSpace(name))
		}
	}
	return names
}

// pass is the last line of a test binary all of whose tests passed.
var pass = regexp.MustCompile(`(?m)^\x16?PASS\n\z`)

// runEach runs the tests and writes what each has written when it is over.
func runEach(names []string) bool {
	queue := make(chan string)
	var workers sync.WaitGroup
	var mu sync.Mutex // guards the output and ok
	ok := true
	for range sideBySide {
		workers.Go(func() {
			// The parent's death signal is bound to the thread that forks.
			runtime.LockOSThread()
			for name := range queue {
				out, err := runAlone(name)
				mu.Lock()
				_, _ = os.Stdout.Write(pass.ReplaceAll(out, nil))
				if err != nil {
					fmt.Printf("%s: %v\n", name, err)
					ok = false
				}
				mu.Unlock()
			}
		})
	}
	for _, name := range names {
		queue <- name
	}
	close(queue)
	workers.Wait()
	return ok
}

func runAlone(name string) ([]byte, error) {
	var out bytes.Buffer
	cmd := exec.Command("/proc/self/exe", append(os.Args[1:], "-test.run=^"+name+"$", "-test.testlogfile=")...)
	cmd.Env = append(os.Environ(), aloneEnv+"=1")
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	return out.Bytes(), err
}

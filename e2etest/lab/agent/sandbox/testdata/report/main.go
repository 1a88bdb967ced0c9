// Command report prints, as JSON, what a process sees of itself and of its
// container. The sandbox tests run it as the container's only binary.
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

type report struct {
	PID, UID, GID int
	Groups        []int
	Args, Env     []string
	Hostname, Cwd string
	Status        map[string]string
	Links         []string
	Root, Mounts  []string
	Files         map[string]string
	WriteErrors   map[string]string
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "sleep" {
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		fmt.Println("ready")
		select {
		case <-stop:
			fmt.Println("terminated")
			os.Exit(7)
		case <-time.After(time.Minute):
		}
		return
	}
	r := report{PID: os.Getpid(), UID: os.Geteuid(), GID: os.Getegid(), Args: os.Args, Env: os.Environ(),
		Status: map[string]string{}, Files: map[string]string{}, WriteErrors: map[string]string{}}
	r.Groups, _ = os.Getgroups()
	r.Hostname, _ = os.Hostname()
	r.Cwd, _ = os.Getwd()
	status, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(status), "\n") {
		if k, v, ok := strings.Cut(line, ":"); ok {
			r.Status[k] = strings.TrimSpace(v)
		}
	}
	links, _ := net.Interfaces()
	for _, l := range links {
		r.Links = append(r.Links, l.Name)
	}
	entries, _ := os.ReadDir("/")
	for _, e := range entries {
		r.Root = append(r.Root, e.Name())
	}
	mounts, _ := os.ReadFile("/proc/self/mounts")
	r.Mounts = strings.Split(strings.TrimSpace(string(mounts)), "\n")
	for _, path := range os.Args[1:] {
		if target, ok := strings.CutPrefix(path, "write:"); ok {
			r.WriteErrors[target] = fmt.Sprint(os.WriteFile(target, []byte("x"), 0o600))
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			b = []byte(err.Error())
		}
		r.Files[path] = string(b)
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		os.Exit(1)
	}
}

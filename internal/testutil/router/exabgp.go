package router

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/testutil/netns"
)

// ackTime bounds ExaBGP's answer to a command.
const ackTime = 30 * time.Second

// An Exa is one ExaBGP: not a router but a BGP speaker that says what it is told
// to, however odd. It hears routes and installs none.
type Exa struct {
	dir     string
	process *netns.Process
	acks    int
}

// exaProcess connects ExaBGP's interface for programs with two files: commands,
// a pipe, and events. It ends when ExaBGP does, whichever way.
const exaProcess = `#!/bin/sh
exec 3<&0
cat 0<>"$(dirname "$0")/commands" & commands=$!
cat <&3 >"$(dirname "$0")/events" & events=$!
trap 'kill $commands $events 2>/dev/null' EXIT
trap exit TERM INT
wait $events
`

// ExaBGP starts an ExaBGP that listens at an address. Its neighbours are those
// with the given addresses; each has its own lines of ExaBGP's configuration.
func ExaBGP(t testing.TB, ns *netns.NS, listen netip.Addr, neighbors map[string]string) *Exa {
	t.Helper()
	need(t, "/usr/sbin/exabgp", "exabgp")
	e := &Exa{dir: tempDir(t)}
	script := filepath.Join(e.dir, "events.sh")
	config := fmt.Sprintf("process events { run /bin/sh %s; encoder json; }\n", script)
	for address, lines := range neighbors {
		config += fmt.Sprintf("neighbor %s {\n%s\napi { processes [ events ]; neighbor-changes; receive { parsed; open; update; notification; refresh; } }\n}\n", address, lines)
	}
	for name, text := range map[string]string{"events.sh": exaProcess, "exabgp.conf": config, "events": ""} {
		if err := os.WriteFile(filepath.Join(e.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(e.dir, "commands"), 0o600); err != nil {
		t.Fatal(err)
	}
	e.process = ns.Start(t, []string{
		"exabgp.daemon.user=root", "exabgp.daemon.daemonize=false", "exabgp.daemon.drop=false",
		"exabgp.tcp.bind=" + listen.String(), "exabgp.tcp.port=179",
		"exabgp.api.cli=false", "exabgp.api.ack=true", "exabgp.api.respawn=false",
		"exabgp.log.destination=stdout", "exabgp.log.level=INFO",
	}, "/usr/sbin/exabgp", "--root", e.dir, filepath.Join(e.dir, "exabgp.conf"))
	return e
}

// Do gives ExaBGP commands and waits until it has done them all.
func (e *Exa) Do(t testing.TB, commands ...string) {
	t.Helper()
	pipe, err := os.OpenFile(filepath.Join(e.dir, "commands"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	_ = pipe.SetWriteDeadline(time.Now().Add(ackTime))
	if _, err := pipe.WriteString(strings.Join(commands, "\n") + "\n"); err != nil {
		t.Fatalf("ExaBGP takes no commands: %v\n%s", err, e.Log())
	}
	e.acks += len(commands)
	netns.Wait(t, ackTime, "ExaBGP to do "+commands[0], func() bool {
		done := 0
		for _, line := range e.lines(t) {
			switch line {
			case "done":
				done++
			case "error":
				t.Fatalf("ExaBGP refuses one of %q:\n%s", commands, e.Log())
			}
		}
		return done >= e.acks
	})
}

// An ExaEvent is what ExaBGP says of a neighbour.
type ExaEvent struct {
	// Type is state, open, update, notification or refresh.
	Type     string
	Neighbor struct {
		Address struct{ Local, Peer netip.Addr }
		// State is connected, up or down; Reason says why it is down.
		State, Reason string
		Message       struct{ Update ExaUpdate }
	}
}

// An ExaUpdate is an UPDATE as ExaBGP decodes it.
type ExaUpdate struct {
	Attribute ExaAttributes
	// Announce has prefixes by family and next hop, Withdraw by family.
	Announce map[string]map[string][]struct{ NLRI string }
	Withdraw map[string][]struct{ NLRI string }
}

// ExaAttributes are the attributes of a path.
type ExaAttributes struct {
	Origin  string
	ASPath  json.RawMessage `json:"as-path"`
	MED     int
	NextHop string `json:"-"`
}

// Events are what ExaBGP said so far of the neighbour with an address.
func (e *Exa) Events(t testing.TB, neighbor string) []ExaEvent {
	t.Helper()
	var events []ExaEvent
	for _, line := range e.lines(t) {
		if !strings.HasPrefix(line, "{") {
			continue
		}
		var event ExaEvent
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("ExaBGP's event: %v\n%s", err, line)
		}
		if event.Neighbor.Address.Peer == netip.MustParseAddr(neighbor) {
			events = append(events, event)
		}
	}
	return events
}

// Routes are those that a neighbour has told ExaBGP since its session is up.
func (e *Exa) Routes(t testing.TB, neighbor string) map[netip.Prefix]ExaAttributes {
	t.Helper()
	routes := make(map[netip.Prefix]ExaAttributes)
	for _, event := range e.Events(t, neighbor) {
		if event.Type == "state" && event.Neighbor.State != "connected" {
			clear(routes)
		}
		update := event.Neighbor.Message.Update
		for _, prefixes := range update.Withdraw {
			for _, p := range prefixes {
				delete(routes, netip.MustParsePrefix(p.NLRI))
			}
		}
		for _, hops := range update.Announce {
			for hop, prefixes := range hops {
				for _, p := range prefixes {
					a := update.Attribute
					a.NextHop = hop
					routes[netip.MustParsePrefix(p.NLRI)] = a
				}
			}
		}
	}
	return routes
}

// Log is what ExaBGP wrote so far, and its events.
func (e *Exa) Log() string {
	events, _ := os.ReadFile(filepath.Join(e.dir, "events"))
	return e.process.Output() + e.process.Errors() + string(events)
}

// lines are the whole lines of the events.
func (e *Exa) lines(t testing.TB) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(e.dir, "events"))
	if err != nil {
		t.Fatal(err)
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	// It puts the length of a shutdown communication into its JSON, as it is.
	printable := bytes.Map(func(r rune) rune {
		if r < ' ' && r != '\n' {
			return -1
		}
		return r
	}, bytes.TrimSpace(text))
	return strings.Split(string(printable), "\n")
}

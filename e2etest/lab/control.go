package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// ReadyLine is the last line of progress: the lab is up.
const ReadyLine = "ready"

// ControlAddress is the supervisor's socket. It is an abstract one: it needs no
// file, vanishes with its process, and can be bound once, which makes it the lock
// on the lab's name.
func ControlAddress(name string) string { return "@herald-lab-" + name }

// Unspecified is the address that listens for everything of the families.
func Unspecified(f Families) netip.Addr {
	if f.V6() {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// Request asks the supervisor for something; see the supervisor for the verbs.
type Request struct {
	Verb string
	Args []string
}

// Response is the supervisor's answer.
type Response struct {
	Text  string
	Error string
}

// controlTimeout bounds one request; power-on, the slowest, boots a node.
const controlTimeout = 90 * time.Second

// ask sends a request to the supervisor of a lab.
func ask(ctx context.Context, name string, req Request) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", ControlAddress(name))
	if err != nil {
		return "", fmt.Errorf("lab %s does not run: %w", name, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := json.NewEncoder(conn).Encode(req); err != nil {
		return "", fmt.Errorf("ask lab %s to %s: %w", name, req.Verb, errors.Join(err, ctx.Err()))
	}
	var res Response
	if err := json.NewDecoder(conn).Decode(&res); err != nil {
		return "", fmt.Errorf("ask lab %s to %s: %w", name, req.Verb, errors.Join(err, ctx.Err()))
	}
	if res.Error != "" {
		return "", fmt.Errorf("lab %s: %s: %s", name, req.Verb, res.Error)
	}
	return res.Text, nil
}

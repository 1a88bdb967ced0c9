//go:build lab

package harness

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/heraldlb/herald/e2etest/lab"
	"github.com/heraldlb/herald/e2etest/lab/probe"
)

// clientOn finds the machine outside of the cluster that has an interface. A
// client with interfaces on two segments would not do for everything: ndisc6
// hears on all of them, whichever it is told to ask on.
func (h *Test) clientOn(iface string) (string, error) {
	for _, c := range h.State.Layout.Clients {
		for _, i := range c.Interfaces {
			if i.Name == iface {
				return c.Name, nil
			}
		}
	}
	return "", fmt.Errorf("no client has an interface %s", iface)
}

// clientFor finds the client on the segment of an address. Behind routers, any
// client is as good.
func (h *Test) clientFor(addr netip.Addr) (string, error) {
	if l := h.State.Layout; len(l.Routers) > 0 && len(l.Clients) > 0 {
		return l.Clients[0].Name, nil
	}
	for n, s := range h.State.Layout.Segments {
		for _, p := range s.Prefixes {
			if p.Contains(addr) {
				return h.clientOn(fmt.Sprintf("eth%d", n))
			}
		}
	}
	return "", fmt.Errorf("%s is on no segment", addr)
}

// Answer is what an echo server said.
type Answer struct {
	Pod string
	// Client is the client's address as the server saw it.
	Client netip.AddrPort
}

// Ask asks an echo server from the client, over a new connection: protocol is
// "http", "tcp" or "udp".
func (h *Test) Ask(protocol string, addr netip.Addr, port uint16) (Answer, error) {
	client, err := h.clientFor(addr)
	if err != nil {
		return Answer{}, err
	}
	at := netip.AddrPortFrom(addr, port).String()
	text, err := h.Exec(h.Ctx, client, "timeout", "3", h.State.Options.Images[lab.EchoImage], "ask", protocol, at)
	if err != nil {
		return Answer{}, err
	}
	return parseAnswer(text)
}

// Curl asks an echo server from the client with curl.
func (h *Test) Curl(addr netip.Addr) (Answer, error) {
	client, err := h.clientFor(addr)
	if err != nil {
		return Answer{}, err
	}
	url := "http://" + netip.AddrPortFrom(addr, 80).String() + "/"
	text, err := h.Exec(h.Ctx, client, "curl", "--silent", "--show-error", "--fail", "--globoff", "--max-time", "2", url)
	if err != nil {
		return Answer{}, err
	}
	return parseAnswer(text)
}

func parseAnswer(text string) (a Answer, err error) {
	a.Pod = podIn(text)
	for word := range strings.FieldsSeq(text) {
		if client, ok := strings.CutPrefix(word, "client="); ok {
			a.Client, err = netip.ParseAddrPort(client)
		}
	}
	if err == nil && (a.Pod == "" || !a.Client.IsValid()) {
		err = fmt.Errorf("an answer that is not an echo server's: %q", text)
	}
	return a, err
}

// Reaches waits until the client gets an answer over HTTP from an address.
func (h *Test) Reaches(addr netip.Addr) (a Answer) {
	h.Helper()
	h.Eventually(Patience, func() (err error) {
		a, err = h.Curl(addr)
		return err
	})
	return a
}

// AnswersOf asks until so many different pods have answered, and returns them.
func (h *Test) AnswersOf(addr netip.Addr, pods int) []string {
	h.Helper()
	var seen []string
	h.Eventually(Patience, func() error {
		a, err := h.Curl(addr)
		if err != nil {
			return err
		}
		if !slices.Contains(seen, a.Pod) {
			seen = append(seen, a.Pod)
		}
		if len(seen) < pods {
			return fmt.Errorf("%s: answers of the pods %v, want %d", addr, seen, pods)
		}
		return nil
	})
	return seen
}

// Measure has the client open a new connection to port 80 of each address every
// few milliseconds, until stop is called, which returns what happened, in the
// order of the addresses.
func (h *Test) Measure(addrs ...netip.Addr) (stop func() []probe.Result) {
	h.Helper()
	o := probe.Options{Interval: 20 * time.Millisecond}
	for _, a := range addrs {
		o.Targets = append(o.Targets, probe.Target{Protocol: "tcp", Addr: netip.AddrPortFrom(a, 80)})
	}
	client, err := h.clientFor(addrs[0])
	h.Must(err)
	p, err := h.Probe(h.Ctx, client, o)
	h.Must(err)
	return func() []probe.Result {
		h.Helper()
		results, err := p.Stop()
		h.Must(err)
		for _, r := range results {
			h.Logf("%s: %d connections, %d failed, longest outage %s %v", r.Target, r.Total, r.Lost, r.Longest.Round(time.Millisecond), r.Errors)
		}
		return results
	}
}

var macPattern = regexp.MustCompile(`(?i)\b([0-9a-f]{1,2}:){5}[0-9a-f]{1,2}\b`)

// MACsOf asks who has an address, from the client with that interface, with
// arping or ndisc6, and returns every MAC that answers, sorted. It listens for
// half a second, so that nobody who answers is missed.
func (h *Test) MACsOf(addr netip.Addr, iface string) ([]string, error) {
	client, err := h.clientOn(iface)
	if err != nil {
		return nil, err
	}
	argv := []string{"arping", "-r", "-c", "2", "-w", "0.3", "-i", iface, addr.String()}
	if addr.Is6() {
		argv = []string{"ndisc6", "-m", "-n", "-q", "-r", "1", "-w", "500", addr.String(), iface}
	}
	text, err := h.Exec(h.Ctx, client, argv...)
	// Both tools exit with an error when nobody answers, which is an answer.
	if err != nil && !noAnswer(err) {
		return nil, err
	}
	macs := macPattern.FindAllString(strings.ToLower(text), -1)
	slices.Sort(macs)
	return slices.Compact(macs), nil
}

func noAnswer(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && (exit.ExitCode() == 1 || exit.ExitCode() == 2)
}

// Answerer returns the one node that answers for an address on the client's
// interface, "" if nobody does; it is an error if two do.
func (h *Test) Answerer(addr netip.Addr, iface string) (string, error) {
	macs, err := h.MACsOf(addr, iface)
	if err != nil || len(macs) == 0 {
		return "", err
	}
	if len(macs) > 1 {
		return "", fmt.Errorf("%s is answered for by %v, want one", addr, macs)
	}
	return h.nodeOf(macs[0], iface)
}

// nodeOf finds whose interface a MAC is.
func (h *Test) nodeOf(mac, iface string) (string, error) {
	for _, n := range h.State.Layout.Nodes {
		for _, i := range n.Interfaces {
			if strings.EqualFold(i.MAC, mac) {
				if i.Name != iface {
					return "", fmt.Errorf("on %s, %s answers with the MAC %s of its %s", iface, n.Name, mac, i.Name)
				}
				return n.Name, nil
			}
		}
	}
	return "", fmt.Errorf("%s is no node's MAC", mac)
}

// AnsweredBy waits until one node, and no other, answers for addresses on the
// client's interface on the first segment.
func (h *Test) AnsweredBy(node string, addrs ...netip.Addr) {
	h.Helper()
	h.AnsweredByOn("eth0", node, addrs...)
}

// AnsweredByOn is AnsweredBy on another of the client's interfaces.
func (h *Test) AnsweredByOn(iface, node string, addrs ...netip.Addr) {
	h.Helper()
	for _, addr := range addrs {
		h.Eventually(Patience, func() error {
			got, err := h.Answerer(addr, iface)
			if err == nil && got != node {
				err = fmt.Errorf("%s on %s is answered for by %q, want %q", addr, iface, got, node)
			}
			return err
		})
	}
}

// Unanswered checks that for a time nobody answers for addresses.
func (h *Test) Unanswered(iface string, during time.Duration, addrs ...netip.Addr) {
	h.Helper()
	h.Always(during, func() error {
		for _, addr := range addrs {
			macs, err := h.MACsOf(addr, iface)
			if err != nil {
				return err
			}
			if len(macs) > 0 {
				return fmt.Errorf("%s on %s is answered for by %v, want nobody", addr, iface, macs)
			}
		}
		return nil
	})
}

//go:build lab

package bgp

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// BenchmarkChurn creates and deletes 1,000 Services, adds and removes two peers,
// and changes one password, and counts the sessions of two other peers that did
// not last, in the words of their routers.
func BenchmarkChurn(b *testing.B) {
	r := newRig(b)
	r.makeServices(0, few)
	r.advertise()
	routers := r.addRouters(neighbor{}, neighbor{bird: true}, neighbor{password: "first"}, neighbor{}, neighbor{bird: true})
	quiet, rotating, added := routers[:2], routers[2], routers[3:]
	r.peers(quiet)
	r.peers([]*router{rotating}, with("password", "first"))
	r.startSpeaker(nil)
	r.speaker.ready()
	r.awaitUp(append(quiet, rotating)...)
	r.awaitRoutes(few, append(quiet, rotating)...)
	r.load("the churn begins")

	made := make(chan error, 1)
	go func() { made <- each(r.ctx, few, few+present, r.makeServed) }()
	r.peers(added)
	r.awaitUp(added...)
	r.rotate(rotating, "second")
	r.dropPeers(added)
	r.until("the peers are removed", 50*time.Millisecond, func() error { return gone(added) })
	r.must(<-made)
	r.awaitRoutes(few+present, append(quiet, rotating)...)
	r.load("the Services are there")
	r.deleteServices(few, few+present)
	r.awaitRoutes(few, append(quiet, rotating)...)
	r.load("the Services are gone")

	flaps := 0
	for _, n := range quiet {
		count, up, err := n.sessions()
		r.must(err)
		if !up {
			r.Fatalf("%s has no session", n.name)
		}
		flaps += count - 1
	}
	b.ReportMetric(float64(flaps), "bgp.session_flaps_during_churn")
}

// rotate changes a password, first at the router and then at the node.
func (r *rig) rotate(n *router, password string) {
	r.Helper()
	_, err := n.ask("-c", "configure terminal", "-c", fmt.Sprintf("router bgp %d", routerASN),
		"-c", fmt.Sprintf("neighbor %s password %s", nodeAddr.Addr(), password))
	r.must(err)
	r.peers([]*router{n}, with("password", password))
	r.awaitUp(n)
}

// gone is nil when none of the routers has a session.
func gone(routers []*router) error {
	for _, n := range routers {
		if _, up, err := n.sessions(); err != nil || up {
			return errors.Join(fmt.Errorf("%s has a session", n.name), err)
		}
	}
	return nil
}

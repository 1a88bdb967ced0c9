//go:build netns

package gobgp

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	libbgp "github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"github.com/osrg/gobgp/v4/pkg/server"

	"github.com/heraldlb/herald/internal/testutil/netns"
)

// peerEnv makes this test binary a BGP speaker of its own: GoBGP, configured by
// the JSON of a goConfig. It says on its output what it learns.
const peerEnv = "HERALD_TEST_GOBGP"

// goConfig configures a GoBGP, AS 64999.
type goConfig struct {
	ID        string
	Neighbors []goNeighbor
}

// goNeighbor is one neighbour. Both families are exchanged.
type goNeighbor struct {
	Address, Password string
	// Passive waits for the neighbour to dial; others dial and take calls.
	Passive, GracefulRestart bool
}

// peer is the neighbour in the library's words.
func (n goNeighbor) peer() *api.Peer {
	p := &api.Peer{
		Conf:      &api.PeerConf{NeighborAddress: n.Address, PeerAsn: 64512, AuthPassword: n.Password},
		Transport: &api.Transport{PassiveMode: n.Passive},
		Timers:    &api.Timers{Config: &api.TimersConfig{ConnectRetry: 1, IdleHoldTimeAfterReset: 1, HoldTime: 90, KeepaliveInterval: 30}},
	}
	if n.GracefulRestart {
		p.GracefulRestart = &api.GracefulRestart{Enabled: true, RestartTime: 60}
	}
	for _, afi := range []api.Family_Afi{api.Family_AFI_IP, api.Family_AFI_IP6} {
		p.AfiSafis = append(p.AfiSafis, &api.AfiSafi{
			Config:            &api.AfiSafiConfig{Family: &api.Family{Afi: afi, Safi: api.Family_SAFI_UNICAST}, Enabled: true},
			MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: n.GracefulRestart}},
		})
	}
	return p
}

// runGoBGPPeer is the whole process if it is such a speaker, and false otherwise.
func runGoBGPPeer() bool {
	text := os.Getenv(peerEnv)
	if text == "" {
		return false
	}
	if err := serveGoBGP(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

func serveGoBGP(text string) error {
	var config goConfig
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := server.NewBgpServer(server.LoggerOption(slog.New(slog.NewTextHandler(os.Stderr, nil)), new(slog.LevelVar)))
	go s.Serve()
	defer s.Stop()
	err := s.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{Asn: 64999, RouterId: config.ID, ListenPort: 179}})
	if err != nil {
		return err
	}
	err = s.WatchEvent(ctx, server.WatchEventMessageCallbacks{
		OnPeerUpdate: func(e *apiutil.WatchEventMessage_PeerEvent, _ time.Time) {
			if e.Type == apiutil.PEER_EVENT_STATE {
				up := e.Peer.State.SessionState == libbgp.BGP_FSM_ESTABLISHED
				fmt.Printf("up=%t %s\n", up, e.Peer.State.NeighborAddress)
			}
		},
		OnBestPath: func(paths []*apiutil.Path, _ time.Time) {
			for _, p := range paths {
				fmt.Println(tellPath(p))
			}
		},
	}, server.WatchPeer(), server.WatchBestPath(true))
	if err != nil {
		return err
	}
	for _, n := range config.Neighbors {
		if err := s.AddPeer(ctx, &api.AddPeerRequest{Peer: n.peer()}); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

// tellPath is a line about a path: what it is, its prefix and next hop.
func tellPath(p *apiutil.Path) string {
	if p.Withdrawal {
		return "lost " + p.Nlri.String()
	}
	var hop netip.Addr
	for _, a := range p.Attrs {
		switch a := a.(type) {
		case *libbgp.PathAttributeNextHop:
			hop = a.Value
		case *libbgp.PathAttributeMpReachNLRI:
			hop = a.Nexthop
		}
	}
	return fmt.Sprintf("learnt %s %s", p.Nlri, hop)
}

// goPeer is a running GoBGP.
type goPeer struct{ process *netns.Process }

// startGoBGP starts a GoBGP in a namespace.
func startGoBGP(t *testing.T, ns *netns.NS, config goConfig) goPeer {
	t.Helper()
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return goPeer{ns.Start(t, []string{peerEnv + "=" + string(text)}, binary)}
}

// said are the lines that it wrote so far.
func (g goPeer) said() []string { return strings.Split(g.process.Output(), "\n") }

// routes are those that it has now, with their next hops.
func (g goPeer) routes() map[netip.Prefix]netip.Addr {
	routes := make(map[netip.Prefix]netip.Addr)
	for _, line := range g.said() {
		switch words := strings.Fields(line); {
		case len(words) == 3 && words[0] == "learnt":
			routes[netip.MustParsePrefix(words[1])] = netip.MustParseAddr(words[2])
		case len(words) == 2 && words[0] == "lost":
			delete(routes, netip.MustParsePrefix(words[1]))
		}
	}
	return routes
}

// awaitRoutes waits until it has a number of routes.
func (g goPeer) awaitRoutes(t *testing.T, count int) map[netip.Prefix]netip.Addr {
	t.Helper()
	netns.Wait(t, 30*time.Second, fmt.Sprintf("%d routes at GoBGP", count), func() bool {
		return len(g.routes()) == count
	})
	return g.routes()
}

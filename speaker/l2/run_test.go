package l2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdlayher/arp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

// running starts a room on a fake OS and returns how to end it.
func running(t *testing.T, log *slog.Logger, reg prometheus.Registerer) (a *Announcer, k *fakeOS, end func()) {
	t.Helper()
	k = newFakeOS()
	a, err := New(Config{Logger: log, Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	a.open = func() (kernel, error) { return k, nil }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	return a, k, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

func TestRoomAnswersAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewPedanticRegistry()
		a, k, end := running(t, slog.New(slog.DiscardHandler), reg)
		a.SetLinks(observed.Links{linkOf(2, "eth0", ourMAC)})
		a.Set(wanted(vip4, vip6))
		time.Sleep(10 * time.Second)
		k.take(t)

		k.frames[protoARP] <- incoming{index: 2, frame: asking(t, vip4)}
		k.frames[protoNDP] <- incoming{index: 2, frame: asking(t, vip6)}
		k.frames[protoARP] <- incoming{index: 2, frame: asking(t, vip4)[:30]}
		k.frames[protoARP] <- incoming{index: 7, frame: asking(t, vip4)}
		k.frames[protoARP] <- incoming{index: 2, frame: arpFrameOf(t, broadcast, theirMAC, arp.OperationRequest, theirMAC, vip4.String(), hwAddr{}, vip4.String())}
		synctest.Wait()
		if got := k.take(t); len(got) != 2 {
			t.Errorf("answers: %v, want one for each address", got)
		}
		want := `
# HELP heraldlb_layer2_foreign_announcements_total Announcements of an announced IP that came from another station.
# TYPE heraldlb_layer2_foreign_announcements_total counter
heraldlb_layer2_foreign_announcements_total{ip="10.0.0.100"} 1
# HELP heraldlb_layer2_malformed_frames_total ARP and NDP frames that were truncated or contradicted themselves.
# TYPE heraldlb_layer2_malformed_frames_total counter
heraldlb_layer2_malformed_frames_total 1
# HELP metallb_layer2_gratuitous_sent Frames sent unasked to tell the neighbours who announces an IP: bursts and periodic refresh.
# TYPE metallb_layer2_gratuitous_sent counter
metallb_layer2_gratuitous_sent{ip="10.0.0.100"} 14
metallb_layer2_gratuitous_sent{ip="2001:db8::100"} 7
# HELP metallb_layer2_requests_received ARP requests and neighbor solicitations received for an announced IP.
# TYPE metallb_layer2_requests_received counter
metallb_layer2_requests_received{ip="10.0.0.100"} 1
metallb_layer2_requests_received{ip="2001:db8::100"} 1
# HELP metallb_layer2_responses_sent ARP replies and neighbor advertisements sent in answer to requests for an announced IP.
# TYPE metallb_layer2_responses_sent counter
metallb_layer2_responses_sent{ip="10.0.0.100"} 1
metallb_layer2_responses_sent{ip="2001:db8::100"} 1
`
		names := []string{"metallb_layer2_requests_received", "metallb_layer2_responses_sent", "metallb_layer2_gratuitous_sent",
			"heraldlb_layer2_foreign_announcements_total", "heraldlb_layer2_malformed_frames_total"}
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want), names...); err != nil {
			t.Error(err)
		}
		a.Set(nil)
		if n, err := testutil.GatherAndCount(reg, names[:4]...); err != nil || n != 0 {
			t.Errorf("%d series of withdrawn addresses remain (%v)", n, err)
		}
		end()
	})
}

func TestRoomStopsAnsweringAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, k, end := running(t, slog.New(slog.DiscardHandler), nil)
		a.SetLinks(observed.Links{linkOf(2, "eth0", ourMAC)})
		a.Set(wanted(vip4))
		synctest.Wait()
		end()
		k.take(t)
		select {
		case k.frames[protoARP] <- incoming{index: 2, frame: asking(t, vip4)}:
			t.Error("somebody still reads after Run has returned")
		case <-time.After(time.Minute):
		}
		if got := k.take(t); len(got) != 0 {
			t.Errorf("sent after the end: %v", got)
		}
	})
}

func TestReadErrorsAreLoggedOnceAndSurvived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		a, k, end := running(t, slog.New(slog.NewTextHandler(&logged, nil)), nil)
		a.SetLinks(observed.Links{linkOf(2, "eth0", ourMAC)})
		a.Set(wanted(vip4))
		for range 5 {
			k.frames[protoARP] <- incoming{err: errors.New("a strange state")}
		}
		time.Sleep(time.Minute)
		k.take(t)
		k.frames[protoARP] <- incoming{index: 2, frame: asking(t, vip4)}
		synctest.Wait()
		if got := k.take(t); len(got) != 1 {
			t.Errorf("answers after the errors: %v, want one", got)
		}
		if n := strings.Count(logged.String(), "a strange state"); n != 1 {
			t.Errorf("logged %d times, want once:\n%s", n, &logged)
		}
		if n := a.metrics.errors.Load(); n != 5 {
			t.Errorf("counted %d errors, want 5", n)
		}
		end()
	})
}

func TestRoomThatCannotOpenItsSocketsSaysSo(t *testing.T) {
	a := newTestAnnouncer(t)
	refused := errors.New("operation not permitted")
	a.open = func() (kernel, error) { return nil, fmt.Errorf("packet socket for ARP: %w", refused) }
	err := a.Run(t.Context())
	if !errors.Is(err, refused) || !strings.Contains(err.Error(), "layer 2") {
		t.Errorf("err = %v, want the refusal", err)
	}
}

func TestForeignAnnouncementIsLoggedOnceInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		a, k, end := running(t, slog.New(slog.NewTextHandler(&logged, nil)), nil)
		a.SetLinks(observed.Links{linkOf(2, "eth0", ourMAC)})
		a.Set(wanted(vip4))
		claim := arpFrameOf(t, broadcast, theirMAC, arp.OperationReply, theirMAC, vip4.String(), broadcast, vip4.String())
		for range 4 {
			for range 10 {
				k.frames[protoARP] <- incoming{index: 2, frame: claim}
			}
			time.Sleep(20 * time.Second)
		}
		synctest.Wait()
		if n := strings.Count(logged.String(), "another station announces our address"); n != 2 {
			t.Errorf("logged %d times in 60 s, want every 30 s:\n%s", n, &logged)
		}
		end()
	})
}

func TestChangesAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := 0
		a := newTestAnnouncer(t)
		a.onChange = func() { told++ }
		k := newFakeOS()
		a.open = func() (kernel, error) { return k, nil }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		synctest.Wait()
		a.Apply(desired.L2Change{Announce: wanted(vip6)})
		synctest.Wait()
		before := told
		a.SetLinks(observed.Links{linkOf(2, "eth0", ourMAC)})
		synctest.Wait()
		if told == before {
			t.Error("links came and nobody was told")
		}
		cancel()
		<-done
	})
}

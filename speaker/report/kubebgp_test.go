package report

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/api/v1beta2"
	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/speaker/observed"
)

func TestKubeWritesAServiceBGPStatus(t *testing.T) {
	k, ctx := newKube(t), context.Background()
	var w writes
	me.decideBGPStatus(facts{key: web, there: true, bgp: advertised(by("tor1 tor2", "node-a", "node-b"))}, &w)
	for _, want := range []error{nil, apierrors.NewAlreadyExists(v1beta1.GroupVersion.WithResource("servicebgpstatuses").GroupResource(), w.bgp.create.Name)} {
		if err := k.createBGPStatus(ctx, w.bgp.create); apierrors.ReasonForError(err) != apierrors.ReasonForError(want) {
			t.Fatalf("create: %v, want %v", err, want)
		}
	}
	name := bgpStatusName(web)
	for _, nodes := range [][]string{{"node-a", "node-b"}, {"node-b"}} {
		want := bgpStatus(web, by("tor1", nodes...))
		version, err := k.setBGPStatus(ctx, name, want)
		if err != nil {
			t.Fatal(err)
		}
		got := get(t, k, "herald", name, &v1beta1.ServiceBGPStatus{})
		if diff := cmp.Diff(want, got.Status); diff != "" || got.ResourceVersion != version {
			t.Errorf("version %q, want %q; status (-want +got):\n%s", got.ResourceVersion, version, diff)
		}
		if diff := cmp.Diff(w.bgp.create.Labels, got.Labels); diff != "" || len(got.OwnerReferences) != 1 {
			t.Errorf("metadata %v, labels (-want +got):\n%s", got.OwnerReferences, diff)
		}
	}
	if err := k.deleteBGPStatus(ctx, name, ""); err != nil {
		t.Fatal(err)
	}
	if err := k.deleteBGPStatus(ctx, name, ""); !apierrors.IsNotFound(err) {
		t.Errorf("deleted twice: %v", err)
	}
}

// What a status no longer says must be gone from the object.
func TestKubeWritesABGPSessionStatus(t *testing.T) {
	k, ctx := newKube(t), context.Background()
	name := sessionName("tor1", "node-a", "")
	if err := k.createSession(ctx, me.newSession(name, "tor1")); err != nil {
		t.Fatal(err)
	}
	bfd := observed.BFD{{Remote: tor1}: {State: observed.BFDUp, Since: clock}}
	for _, s := range []session{
		the(t, down(up(func(s *observed.Session) { s.IPv6 = true }), clock, "half a rune \xc3 and \x00"), bfd),
		the(t, idle(observed.Blocked, reason.SecretMissing, "Secret x"), nil),
		the(t, up(func(s *observed.Session) { s.HoldTime, s.KeepaliveTime = 0, 0 }), nil),
	} {
		version, err := k.setSession(ctx, name, s.status)
		if err != nil {
			t.Fatal(err)
		}
		got := get(t, k, "herald", name, &v1alpha1.BGPSessionStatus{})
		if diff := cmp.Diff(s.status, got.Status); diff != "" || got.ResourceVersion != version {
			t.Errorf("version %q, want %q; status (-want +got):\n%s", got.ResourceVersion, version, diff)
		}
		if when := urgencyOf(got.Status, s.status); when != never {
			t.Errorf("what was read back is taken for a change of urgency %d", when)
		}
		if got.Labels["metallb.io/node"] != "node-a" || got.Labels["heraldlb.io/peer"] != "tor1" || len(got.OwnerReferences) != 1 {
			t.Errorf("metadata %+v", got.ObjectMeta)
		}
	}
	if err := k.deleteSession(ctx, name, ""); err != nil {
		t.Fatal(err)
	}
	if err := k.deleteSession(ctx, name, ""); !apierrors.IsNotFound(err) {
		t.Errorf("deleted twice: %v", err)
	}
}

func TestKubeWritesEventsOnPeers(t *testing.T) {
	long := strings.Repeat("very-long-name.", 16) + "example"
	peer := func(name string) *v1beta2.BGPPeer {
		return &v1beta2.BGPPeer{ObjectMeta: metav1.ObjectMeta{Namespace: "herald", Name: name, UID: "u"}}
	}
	k, ctx := newKube(t, peer("tor1"), peer(long)), context.Background()
	for _, name := range []string{"tor1", long} {
		if err := k.peerEvent(ctx, name, note{warning: true, reason: eventLost, text: strings.Repeat("bye ", 500)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.peerEvent(ctx, "tor1", note{reason: eventEstablished, text: "here"}); err != nil {
		t.Fatal(err)
	}
	if err := k.peerEvent(ctx, "gone", note{reason: eventLost, text: "x"}); !apierrors.IsNotFound(err) {
		t.Errorf("about a peer that is not there: %v", err)
	}
	var list eventsv1.EventList
	if err := k.client.List(ctx, &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 3 {
		t.Errorf("%d events, want 3", len(list.Items))
	}
	for _, e := range list.Items {
		if errs := validation.IsDNS1123Subdomain(e.Name); len(errs) > 0 {
			t.Errorf("%q is no name: %v", e.Name, errs)
		}
		want := corev1.EventTypeWarning
		if e.Reason == eventEstablished {
			want = corev1.EventTypeNormal
		}
		if e.Type != want || e.Regarding.Kind != "BGPPeer" || e.Regarding.UID != "u" || e.Namespace != "herald" || len(e.Note) > maxNote || e.Action == "" {
			t.Errorf("the event is %+v", e)
		}
	}
}

func TestKubeFindsStrandedSessions(t *testing.T) {
	long := strings.Repeat("very-long-node-name.", 12) + "example"
	ctx := context.Background()
	if all, err := newKube(t).nodes(ctx); err == nil {
		t.Errorf("no node at all: %v, want an error, lest everything is deleted", all)
	}
	k := newKube(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-a"}}, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: long}})
	for _, node := range []string{"node-a", long, "node-z"} {
		i := identity{node: node, namespace: "herald", owner: me.owner}
		if err := k.createSession(ctx, i.newSession(sessionName("tor1", node, ""), "tor1")); err != nil {
			t.Fatal(err)
		}
	}
	nodes, err := k.nodes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	all, err := k.allSessions(ctx)
	if err != nil {
		t.Fatal(err)
	}
	stranded := sweeper{}.stranded(all, nodes, nodes, clock)
	if len(all) != 3 || len(stranded) != 1 || stranded[0].Name != sessionName("tor1", "node-z", "") {
		t.Errorf("of %d objects are stranded: %v, want the one of node-z", len(all), stranded)
	}
}

// An object holds whole seconds; nothing may be written for the rest.
func TestTimesComeBackAsTheyWereWritten(t *testing.T) {
	for _, at := range []time.Time{clock, clock.UTC(), time.Date(2026, 1, 2, 3, 4, 5, 999999999, time.FixedZone("x", 3600))} {
		text, err := seconds(at).MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var back metav1.Time
		if err := back.UnmarshalJSON(text); err != nil || !back.Equal(seconds(at)) {
			t.Errorf("%s came back as %s (%v)", at, back, err)
		}
	}
}

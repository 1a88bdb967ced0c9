package report

import (
	"context"
	"errors"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/service"
)

func (c *fakeCluster) createBGPStatus(_ context.Context, s *v1beta1.ServiceBGPStatus) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.write("create %s", s.Name); err != nil {
		return err
	}
	if _, ok := c.bgp[s.Name]; ok {
		return apierrors.NewAlreadyExists(schema.GroupResource{}, s.Name)
	}
	s = s.DeepCopy()
	s.ResourceVersion, s.Status = c.next(), v1beta1.ServiceBGPStatusStatus{}
	s.UID = types.UID("uid-" + s.ResourceVersion)
	c.putBGPStatus(s)
	return nil
}

// putBGPStatus stores an object and tells of it, as the cache shows it.
func (c *fakeCluster) putBGPStatus(s *v1beta1.ServiceBGPStatus) {
	c.bgp[s.Name] = s
	seen := slimmed(s)
	c.tell(func(h handlers) { h.bgpStatusSeen(seen, false) })
}

func (c *fakeCluster) setBGPStatus(_ context.Context, name string, st v1beta1.ServiceBGPStatusStatus) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var by []string
	for _, n := range st.Nodes {
		by = append(by, n.Node+":"+strings.Join(n.Peers, ","))
	}
	if err := c.write("status %s %s", name, strings.Join(by, " ")); err != nil {
		return "", err
	}
	s, ok := c.bgp[name]
	if !ok {
		return "", notFound(name)
	}
	if s.Status.Node != st.Node {
		return "", errors.New("node cannot be changed after it was set")
	}
	s = s.DeepCopy()
	s.ResourceVersion, s.Status = c.next(), *st.DeepCopy()
	c.putBGPStatus(s)
	return s.ResourceVersion, nil
}

func (c *fakeCluster) deleteBGPStatus(_ context.Context, name string, uid types.UID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.write("delete %s", name); err != nil {
		return err
	}
	s, ok := c.bgp[name]
	if !ok {
		return notFound(name)
	}
	if uid != "" && uid != s.UID {
		return apierrors.NewConflict(schema.GroupResource{}, name, errors.New("the UID is another"))
	}
	delete(c.bgp, name)
	s = slimmed(s)
	s.ResourceVersion = c.next()
	c.tell(func(h handlers) { h.bgpStatusSeen(s, true) })
	return nil
}

// bgpStatus returns the one ServiceBGPStatus of a Service, and how many there are.
func (c *fakeCluster) bgpStatus(key service.Key) (v1beta1.ServiceBGPStatusStatus, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found v1beta1.ServiceBGPStatusStatus
	n := 0
	for _, s := range c.bgp {
		if s.Labels[labelServiceName] == key.Name && s.Labels[labelServiceNamespace] == key.Namespace {
			found, n = s.Status, n+1
		}
	}
	return found, n
}

func (c *fakeCluster) createSession(_ context.Context, s *v1alpha1.BGPSessionStatus) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.write("create %s", s.Name); err != nil {
		return err
	}
	if _, ok := c.sessions[s.Name]; ok {
		return apierrors.NewAlreadyExists(schema.GroupResource{}, s.Name)
	}
	s = s.DeepCopy()
	s.ResourceVersion, s.Status = c.next(), v1alpha1.BGPSessionStatusStatus{}
	s.UID = types.UID("uid-" + s.ResourceVersion)
	c.putSession(s)
	return nil
}

func (c *fakeCluster) putSession(s *v1alpha1.BGPSessionStatus) {
	c.sessions[s.Name] = s
	seen := s.DeepCopy()
	c.tell(func(h handlers) { h.sessionSeen(seen, false) })
}

func (c *fakeCluster) setSession(_ context.Context, name string, st v1alpha1.BGPSessionStatusStatus) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	bfd := ""
	if st.BFD != nil {
		bfd = " bfd " + string(st.BFD.State)
	}
	if err := c.write("session %s %s@%s %s%s", name, st.Peer, st.Node, st.State, bfd); err != nil {
		return "", err
	}
	s, ok := c.sessions[name]
	if !ok {
		return "", notFound(name)
	}
	if s.Status.Node != "" && (s.Status.Node != st.Node || s.Status.Peer != st.Peer) {
		return "", errors.New("node and peer cannot be changed after they were set")
	}
	s = s.DeepCopy()
	s.ResourceVersion, s.Status = c.next(), *st.DeepCopy()
	c.putSession(s)
	return s.ResourceVersion, nil
}

func (c *fakeCluster) deleteSession(_ context.Context, name string, uid types.UID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.write("delete %s", name); err != nil {
		return err
	}
	s, ok := c.sessions[name]
	if !ok {
		return notFound(name)
	}
	if uid != "" && uid != s.UID {
		return apierrors.NewConflict(schema.GroupResource{}, name, errors.New("the UID is another"))
	}
	delete(c.sessions, name)
	s = s.DeepCopy()
	s.ResourceVersion = c.next()
	c.tell(func(h handlers) { h.sessionSeen(s, true) })
	return nil
}

func (c *fakeCluster) peerEvent(_ context.Context, peer string, n note) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.write("event BGPPeer %s %s: %s", peer, n.reason, n.text)
}

func (c *fakeCluster) allSessions(context.Context) ([]metav1.ObjectMeta, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []metav1.ObjectMeta
	for _, s := range c.sessions {
		all = append(all, s.ObjectMeta)
	}
	return all, nil
}

func (c *fakeCluster) nodes(context.Context) ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.has), nil
}

// session returns the BGPSessionStatus of a node and a peer.
func (c *fakeCluster) session(peer, node, remote string) v1alpha1.BGPSessionStatusStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.sessions[sessionName(peer, node, remote)]; s != nil {
		return s.Status
	}
	return v1alpha1.BGPSessionStatusStatus{}
}

package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/heraldlb/herald/e2etest/lab"
	"github.com/heraldlb/herald/e2etest/lab/controlplane"
	"github.com/heraldlb/herald/e2etest/lab/process"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
)

// node is one Kubernetes node: a machine, its agent and its kube-proxy.
type node struct {
	machine
	agent *process.Process
	proxy *process.Process
}

// buildNode makes a node's machine, freshly booted: wires, addresses, routes.
func (s *Supervisor) buildNode(n *node) (err error) {
	h, l := n.host, s.state.Layout
	if n.net, err = newHost(h.Namespace, forwarding); err != nil {
		return err
	}
	if err := s.plug(h, n.net); err != nil {
		return err
	}
	if err := wire(n.net, *h.Mgmt, s.cpNet, l.ControlPlane.Mgmt.Name); err != nil {
		return err
	}
	// Pods of other nodes are reached through those nodes if they are on the same
	// segment. To others the default route leads, whose router knows the way.
	for _, other := range l.Nodes {
		if other.Name == h.Name || other.Interfaces[0].Segment != h.Interfaces[0].Segment {
			continue
		}
		for i, cidr := range other.PodCIDRs {
			if err := n.net.Route(cidr, other.Interfaces[0].Addrs()[i]); err != nil {
				return err
			}
		}
	}
	// The control plane reaches a node's address and pods over the management
	// network, and is answered the same way.
	for i, via := range h.Mgmt.Addrs() {
		for _, dst := range []netip.Prefix{hostRoute(h.Interfaces[0].Addrs()[i]), h.PodCIDRs[i]} {
			if err := s.cpNet.Route(dst, via); err != nil {
				return err
			}
		}
	}
	return s.masquerade(n)
}

// masquerade gives connections that pods open to machines outside of the cluster
// the node's address, as a CNI plug-in does: nobody outside knows a way to pods.
func (s *Supervisor) masquerade(n *node) error {
	var rules strings.Builder
	for i, own := range n.host.PodCIDRs {
		ip := "ip"
		if own.Addr().Is6() {
			ip = "ip6"
		}
		fmt.Fprintf(&rules, "%s saddr %s %s daddr != { %s, %s } masquerade\n", ip, own, ip,
			s.state.Layout.PodCIDRs[i], n.host.Mgmt.Prefixes[i].Masked())
	}
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(fmt.Sprintf(
		"table inet herald-lab {\nchain egress {\ntype nat hook postrouting priority srcnat + 10; policy accept;\n%s}\n}\n", &rules))
	var out []byte
	err := n.net.Do(func() (err error) {
		out, err = cmd.CombinedOutput()
		return err
	})
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("nft is missing: install the Debian package nftables; kube-proxy needs it too: %w", err)
	}
	if err != nil {
		return fmt.Errorf("set up masquerading on %s: %w: %s", n.host.Name, err, out)
	}
	return nil
}

// bootNode starts a node's programs and waits until the node is Ready and its
// kube-proxy has written its rules.
func (s *Supervisor) bootNode(ctx context.Context, n *node) error {
	if err := s.describeNode(n); err != nil {
		return err
	}
	bootedAt := metav1.NewTime(time.Now().Truncate(time.Second))
	if err := n.agent.Start(); err != nil {
		return err
	}
	// kube-proxy asks for its node once a second until it has addresses; waiting
	// here saves most of that second.
	if err := s.waitNode(ctx, n, "be registered", func(k *corev1.Node) bool { return len(k.Status.Addresses) > 0 }); err != nil {
		return err
	}
	if err := n.proxy.Start(); err != nil {
		return err
	}
	if err := s.waitNode(ctx, n, "become Ready", func(k *corev1.Node) bool { return readySince(k, bootedAt) }); err != nil {
		return err
	}
	return s.waitProxy(ctx, n)
}

// readySince reports whether the node was reported Ready at or after a time.
func readySince(k *corev1.Node, t metav1.Time) bool {
	return slices.ContainsFunc(k.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue && !c.LastHeartbeatTime.Before(&t)
	})
}

// waitNode waits until the Node object satisfies a condition.
func (s *Supervisor) waitNode(ctx context.Context, n *node, what string, ok func(*corev1.Node) bool) error {
	err := wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		k, err := s.client.CoreV1().Nodes().Get(ctx, n.host.Name, metav1.GetOptions{})
		return err == nil && ok(k), nil
	})
	if err != nil {
		return fmt.Errorf("%s does not %s: %w; its agent's log ends with:\n%s", n.host.Name, what, err, n.agent.Tail(2000))
	}
	return nil
}

// waitProxy waits until kube-proxy has written its rules for the first time.
func (s *Supervisor) waitProxy(ctx context.Context, n *node) error {
	families := []string{}
	for _, cidr := range n.host.PodCIDRs {
		families = append(families, map[bool]string{true: "ip6", false: "ip"}[cidr.Addr().Is6()])
	}
	err := wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(context.Context) (bool, error) {
		for _, family := range families {
			err := n.net.Do(exec.Command("nft", "list", "map", family, "kube-proxy", "service-ips").Run)
			if err != nil {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("kube-proxy of %s writes no rules: %w; its log ends with:\n%s", n.host.Name, err, n.proxy.Tail(2000))
	}
	return nil
}

// describeNode makes a node's keys and describes its programs, once in its life.
func (s *Supervisor) describeNode(n *node) error {
	h, o, l := n.host, s.state.Options, s.state.Layout
	dir := filepath.Join(o.StateDir, "nodes", h.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the folder of %s: %w", h.Name, err)
	}
	ca := s.cp.Authority
	identity, err := ca.Client(h.Name, "system:node:"+h.Name, controlplane.NodeGroup)
	if err != nil {
		return err
	}
	serving, err := ca.Server(h.Name+"-serving", []string{h.Name}, h.Interfaces[0].Addrs())
	if err != nil {
		return err
	}
	proxyID, err := ca.Client(h.Name+"-proxy", "system:kube-proxy", "system:node-proxier")
	if err != nil {
		return err
	}
	agentConfig, proxyConfig := filepath.Join(dir, "agent.kubeconfig"), filepath.Join(dir, "kube-proxy.kubeconfig")
	if err := ca.Kubeconfig(agentConfig, s.cp.URL(), identity); err != nil {
		return err
	}
	if err := ca.Kubeconfig(proxyConfig, s.cp.URL(), proxyID); err != nil {
		return err
	}
	var ips, podCIDRs []string
	for _, a := range h.Interfaces[0].Addrs() {
		ips = append(ips, a.String())
	}
	for _, c := range l.PodCIDRs {
		podCIDRs = append(podCIDRs, c.String())
	}
	agentArgs := []string{
		"agent",
		"--name=" + h.Name,
		"--kubeconfig=" + agentConfig,
		"--node-ip=" + strings.Join(ips, ","),
		"--images=" + lab.ImagesFile(o.StateDir),
		"--state-dir=" + dir,
		"--netns=" + h.Namespace,
		"--tls-cert=" + serving.CertFile,
		"--tls-key=" + serving.KeyFile,
		"--client-ca=" + ca.File(),
	}
	for _, c := range h.PodCIDRs {
		if c.Addr().Is6() {
			agentArgs = append(agentArgs, "--pod-cidr6="+c.String())
		} else {
			agentArgs = append(agentArgs, "--pod-cidr4="+c.String())
		}
	}
	n.agent = process.New(n.net, process.Spec{
		Name: "agent", Path: filepath.Join(o.BinDir, "lab"),
		Args: append(agentArgs, o.ExtraArgs["agent"]...),
		Log:  filepath.Join(o.LogDir, h.Name+"-agent.log"),
	})
	n.proxy = process.New(n.net, process.Spec{
		Name: "kube-proxy", Path: filepath.Join(o.BinDir, "kube"),
		Args: append([]string{
			"--kubeconfig=" + proxyConfig,
			"--hostname-override=" + h.Name,
			"--proxy-mode=nftables",
			"--cluster-cidr=" + strings.Join(podCIDRs, ","),
			// The limits of connection tracking are the machine's, not the
			// namespace's: leave them alone.
			"--conntrack-max-per-core=0",
			"--conntrack-tcp-timeout-established=0s",
			"--conntrack-tcp-timeout-close-wait=0s",
		}, o.ExtraArgs["kube-proxy"]...),
		Log: filepath.Join(o.LogDir, h.Name+"-kube-proxy.log"),
	})
	n.programs = []*process.Process{n.agent, n.proxy}
	return nil
}

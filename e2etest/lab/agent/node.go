package agent

import (
	"context"
	"fmt"
	"maps"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/virtual-kubelet/virtual-kubelet/node"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// kubeletVersion is what the node says it runs.
const kubeletVersion = "v1.35.4"

// statusPeriod is how often the node's status is written. A kubelet looks every
// 10 s; a node that comes back from a power cut should be ready sooner.
const statusPeriod = 5 * time.Second

// stopPatience bounds the wait for virtual-kubelet's loops, which sleep through
// the end of their context while the API server is away.
const stopPatience = 2 * time.Second

// serveNode keeps the Node object and its Lease, by virtual-kubelet's node
// controller, which ends when it cannot register: then it is tried again.
func (a *Agent) serveNode(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		if err := a.serveNodeOnce(ctx); err != nil && ctx.Err() == nil {
			a.cfg.Log.Warn("cannot register the node", "node", a.cfg.Name, "err", err)
		}
		sleep(ctx, backoff(n))
	}
}

func (a *Agent) serveNodeOnce(ctx context.Context) error {
	leases := a.client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	nc, err := node.NewNodeController(node.NaiveNodeProvider{}, a.nodeObject(time.Now()), a.client.CoreV1().Nodes(),
		node.WithNodeEnableLeaseV1WithRenewInterval(leases, int32(a.cfg.LeaseSeconds), time.Duration(a.cfg.LeaseSeconds)*time.Second/4),
		node.WithNodeStatusUpdateInterval(statusPeriod))
	if err != nil {
		return fmt.Errorf("make the node controller: %w", err)
	}
	go func() { _ = nc.Run(ctx) }() // its error is nc.Err()
	select {
	case <-nc.Done():
		return nc.Err()
	case <-ctx.Done():
	}
	select {
	case <-nc.Done():
	case <-time.After(stopPatience):
	}
	return nil
}

// nodeObject is the Node. It says nothing of NetworkUnavailable, which belongs
// to whoever runs the network: virtual-kubelet patches only what is named here.
func (a *Agent) nodeObject(now time.Time) *corev1.Node {
	labels := map[string]string{
		corev1.LabelHostname:   a.cfg.Name,
		corev1.LabelOSStable:   runtime.GOOS,
		corev1.LabelArchStable: runtime.GOARCH,
	}
	maps.Copy(labels, a.cfg.Labels)
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: a.cfg.Name, Labels: labels}}
	for _, p := range a.cfg.PodCIDRs {
		n.Spec.PodCIDRs = append(n.Spec.PodCIDRs, p.Masked().String())
	}
	n.Spec.PodCIDR = n.Spec.PodCIDRs[0]
	n.Spec.ProviderID = "lab://" + a.cfg.Name
	for _, ip := range a.cfg.NodeIPs {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip.String()})
	}
	n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: a.cfg.Name})
	n.Status.Capacity, n.Status.Allocatable = a.allocatable, a.allocatable
	n.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(a.cfg.Port)
	n.Status.NodeInfo = nodeInfo()
	at := metav1.Time{Time: now}
	for _, c := range []struct {
		kind            corev1.NodeConditionType
		status          corev1.ConditionStatus
		reason, message string
	}{
		{corev1.NodeMemoryPressure, corev1.ConditionFalse, "KubeletHasSufficientMemory", "the lab's node agent does not watch memory"},
		{corev1.NodeDiskPressure, corev1.ConditionFalse, "KubeletHasNoDiskPressure", "the lab's node agent does not watch disks"},
		{corev1.NodePIDPressure, corev1.ConditionFalse, "KubeletHasSufficientPID", "the lab's node agent does not watch processes"},
		{corev1.NodeReady, corev1.ConditionTrue, "KubeletReady", "the lab's node agent is posting ready status"},
	} {
		n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: c.kind, Status: c.status,
			Reason: c.reason, Message: c.message, LastHeartbeatTime: at, LastTransitionTime: at})
	}
	return n
}

// capacity is the machine's. Every node of a lab has all of it: pods are not
// confined, and what they request must not keep them from being scheduled.
func capacity() corev1.ResourceList {
	memory := int64(16 << 30)
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		memory = int64(info.Totalram) * int64(info.Unit)
	}
	return corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewQuantity(int64(max(runtime.NumCPU(), 8)), resource.DecimalSI),
		corev1.ResourceMemory:           *resource.NewQuantity(memory, resource.BinarySI),
		corev1.ResourceEphemeralStorage: resource.MustParse("100Gi"),
		corev1.ResourcePods:             resource.MustParse("250"),
	}
}

func nodeInfo() corev1.NodeSystemInfo {
	var u unix.Utsname
	kernel := ""
	if unix.Uname(&u) == nil {
		kernel = unix.ByteSliceToString(u.Release[:])
	}
	machine, _ := os.ReadFile("/etc/machine-id") // shown only
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return corev1.NodeSystemInfo{
		MachineID: strings.TrimSpace(string(machine)), BootID: strings.TrimSpace(string(boot)), KernelVersion: kernel,
		OSImage: "Herald lab node", ContainerRuntimeVersion: "lab://1", KubeletVersion: kubeletVersion,
		OperatingSystem: runtime.GOOS, Architecture: runtime.GOARCH,
	}
}

package agent

import (
	"fmt"
	"net/netip"
	"sort"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// podFacts is what the downward API may tell a container.
type podFacts struct {
	pod         *corev1.Pod
	hostIPs     []netip.Addr
	podIPs      []netip.Addr
	allocatable corev1.ResourceList
}

// hostname is the name that the pod's uts namespace gets.
func (f podFacts) hostname() string {
	if f.pod.Spec.HostNetwork {
		return f.pod.Spec.NodeName
	}
	if f.pod.Spec.Hostname != "" {
		return f.pod.Spec.Hostname
	}
	return f.pod.Name[:min(len(f.pod.Name), 63)]
}

// field resolves a fieldRef.
func (f podFacts) field(path string) (string, error) {
	p := f.pod
	if base, key, ok := subscript(path); ok {
		switch base {
		case "metadata.labels":
			return p.Labels[key], nil
		case "metadata.annotations":
			return p.Annotations[key], nil
		}
	}
	switch path {
	case "metadata.name":
		return p.Name, nil
	case "metadata.namespace":
		return p.Namespace, nil
	case "metadata.uid":
		return string(p.UID), nil
	case "metadata.labels":
		return formatMap(p.Labels), nil
	case "metadata.annotations":
		return formatMap(p.Annotations), nil
	case "spec.nodeName":
		return p.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return p.Spec.ServiceAccountName, nil
	case "status.hostIP":
		return joinAddrs(f.hostIPs[:min(1, len(f.hostIPs))]), nil
	case "status.hostIPs":
		return joinAddrs(f.hostIPs), nil
	case "status.podIP":
		return joinAddrs(f.podIPs[:min(1, len(f.podIPs))]), nil
	case "status.podIPs":
		return joinAddrs(f.podIPs), nil
	}
	return "", fmt.Errorf("field %q is not one that the downward API offers", path)
}

// subscript splits metadata.labels['key'].
func subscript(path string) (base, key string, ok bool) {
	base, rest, ok := strings.Cut(path, "['")
	if !ok || !strings.HasSuffix(rest, "']") {
		return "", "", false
	}
	return base, strings.TrimSuffix(rest, "']"), true
}

// formatMap writes labels or annotations as the downward API volume does.
func formatMap(m map[string]string) string {
	lines := make([]string, 0, len(m))
	for k, v := range m {
		lines = append(lines, k+"="+strconv.Quote(v))
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

func joinAddrs(addrs []netip.Addr) string {
	out := make([]string, 0, len(addrs))
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return strings.Join(out, ",")
}

// resource resolves a resourceFieldRef; own is the container it stands in, nil
// in a volume, where the reference names one.
func (f podFacts) resource(ref *corev1.ResourceFieldSelector, own *corev1.Container) (string, error) {
	c := own
	if ref.ContainerName != "" {
		c = nil
		for i := range f.pod.Spec.Containers {
			if f.pod.Spec.Containers[i].Name == ref.ContainerName {
				c = &f.pod.Spec.Containers[i]
			}
		}
	}
	if c == nil {
		return "", fmt.Errorf("resource %s: container %q not found", ref.Resource, ref.ContainerName)
	}
	kind, name, _ := strings.Cut(ref.Resource, ".")
	var q resource.Quantity
	switch kind {
	case "limits":
		var ok bool
		if q, ok = c.Resources.Limits[corev1.ResourceName(name)]; !ok {
			q = f.allocatable[corev1.ResourceName(name)] // no limit: all of the node
		}
	case "requests":
		q = c.Resources.Requests[corev1.ResourceName(name)]
	default:
		return "", fmt.Errorf("resource %q: expected limits.* or requests.*", ref.Resource)
	}
	return inUnits(q, ref.Divisor), nil
}

// inUnits divides q by the divisor, 1 when none is given, and rounds up.
func inUnits(q, divisor resource.Quantity) string {
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	d := divisor.MilliValue()
	if q.Value() > 1<<50 || d%1000 == 0 {
		return strconv.FormatInt(ceilDiv(q.Value(), max(divisor.Value(), 1)), 10)
	}
	return strconv.FormatInt(ceilDiv(q.MilliValue(), d), 10)
}

func ceilDiv(a, b int64) int64 { return (a + b - 1) / b }

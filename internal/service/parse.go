package service

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/heraldlb/herald/internal/reason"
)

// The prefixes of the annotations: the current one, and the one that MetalLB
// deprecated and that is still read.
const (
	prefix           = "metallb.io/"
	deprecatedPrefix = "metallb.universe.tf/"
)

// The annotations of a Service, as users write them today.
const (
	AnnotationAddresses  = prefix + "loadBalancerIPs"
	AnnotationPool       = prefix + "address-pool"
	AnnotationSharingKey = prefix + "allow-shared-ip"
	// AnnotationFromPool is the one that the controller writes: the pool that
	// the Service's addresses come from.
	AnnotationFromPool = prefix + "ip-allocated-from-pool"
)

// Parse reads everything that Herald needs from a Service. The result shares
// the label map with svc, which therefore must not be changed afterwards.
func Parse(svc *corev1.Service) *Service {
	s := &Service{
		Key:          Key{Namespace: svc.Namespace, Name: svc.Name},
		UID:          string(svc.UID),
		Created:      svc.CreationTimestamp.Time,
		Labels:       svc.Labels,
		LoadBalancer: svc.Spec.Type == corev1.ServiceTypeLoadBalancer,
		Local:        svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
		ClusterIPs:   clusterIPs(&svc.Spec),
		Policy:       familyPolicy(svc.Spec.IPFamilyPolicy),
		PreferIPv6:   len(svc.Spec.IPFamilies) > 0 && svc.Spec.IPFamilies[0] == corev1.IPv6Protocol,
		Ports:        ports(svc.Spec.Ports),
	}
	if svc.Spec.LoadBalancerClass != nil {
		s.Class = *svc.Spec.LoadBalancerClass
	}
	if s.Local {
		s.BackendKey = labels.Set(svc.Spec.Selector).String()
	}
	s.readAnnotations(svc.Annotations)
	s.readRequest(svc)
	s.readBGP(svc.Annotations)
	s.readStatus(svc.Status.LoadBalancer.Ingress)
	return s
}

// annotation finds an annotation under the current prefix or, only when that
// key is absent, under the deprecated one. It returns the key that was found.
func annotation(annotations map[string]string, key string) (value, found string, ok bool) {
	if v, ok := annotations[key]; ok {
		return v, key, true
	}
	old := deprecatedPrefix + strings.TrimPrefix(key, prefix)
	v, ok := annotations[old]
	return v, old, ok
}

func (s *Service) readAnnotations(annotations map[string]string) {
	s.SharingKey, _, s.AllowsSharing = annotation(annotations, AnnotationSharingKey)
	s.WantPool, _, _ = annotation(annotations, AnnotationPool)
	s.Pool, _, _ = annotation(annotations, AnnotationFromPool)
	for key := range annotations {
		if strings.HasPrefix(key, deprecatedPrefix) {
			s.DeprecatedAnnotations = append(s.DeprecatedAnnotations, key)
		}
	}
	slices.Sort(s.DeprecatedAnnotations)
}

// readRequest reads which addresses the user asks for. A request that cannot
// be understood asks for nothing and leaves a Problem.
func (s *Service) readRequest(svc *corev1.Service) {
	const specField = "spec.loadBalancerIP"
	text, key, _ := annotation(svc.Annotations, AnnotationAddresses)
	switch {
	case text == "" && svc.Spec.LoadBalancerIP == "":
		return
	case text != "" && svc.Spec.LoadBalancerIP != "":
		s.refuse(key, "the Service asks for addresses both by annotation %s (%q) and by %s (%q): expected one of them",
			key, text, specField, svc.Spec.LoadBalancerIP)
		return
	}
	parts := []string{svc.Spec.LoadBalancerIP}
	field := specField
	if text != "" {
		parts, field = strings.Split(text, ","), key
	}
	var want []netip.Addr
	for _, part := range parts {
		addr, ok := parseAddr(strings.TrimSpace(part))
		if !ok {
			s.refuse(field, "%s: %q is not an IP address: expected one address, or one of each family joined by a comma", field, part)
			return
		}
		for _, other := range want {
			if other.Is4() == addr.Is4() {
				s.refuse(field, "%s asks for %s and %s, which are of the same family: expected at most one address of each family",
					field, other, addr)
				return
			}
		}
		want = append(want, addr)
	}
	s.WantAddresses = want
}

func (s *Service) refuse(field, format string, args ...any) {
	s.Problems = append(s.Problems, Problem{
		Field:   field,
		Reason:  reason.InvalidRequest,
		Message: fmt.Sprintf(format, args...),
	})
}

func (s *Service) readStatus(ingress []corev1.LoadBalancerIngress) {
	for i := range ingress {
		addr, ok := parseAddr(ingress[i].IP)
		if !ok {
			s.BadIngress = true
			continue
		}
		s.Addresses = append(s.Addresses, addr)
	}
}

// parseAddr accepts an IP address without a zone. An IPv4 address in IPv6
// clothes (::ffff:10.0.0.1) is the IPv4 address.
func parseAddr(text string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" {
		return netip.Addr{}, false
	}
	return addr.Unmap(), true
}

// clusterIPs reads spec.clusterIPs, or spec.clusterIP where an old client left
// only that. "None" (headless) and what is no address are left out.
func clusterIPs(spec *corev1.ServiceSpec) []netip.Addr {
	texts := spec.ClusterIPs
	if len(texts) == 0 {
		texts = []string{spec.ClusterIP}
	}
	var addrs []netip.Addr
	for _, text := range texts {
		if addr, ok := parseAddr(text); ok {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

func familyPolicy(policy *corev1.IPFamilyPolicy) FamilyPolicy {
	if policy == nil {
		return SingleStack
	}
	switch *policy {
	case corev1.IPFamilyPolicyPreferDualStack:
		return PreferDualStack
	case corev1.IPFamilyPolicyRequireDualStack:
		return RequireDualStack
	default:
		return SingleStack
	}
}

func ports(specs []corev1.ServicePort) []Port {
	var out []Port
	for i := range specs {
		p := Port{Protocol: string(specs[i].Protocol)}
		if p.Protocol == "" {
			p.Protocol = string(corev1.ProtocolTCP)
		}
		// The API server admits 1 to 65535 only.
		if specs[i].Port < 1 || specs[i].Port > 65535 {
			continue
		}
		p.Port = uint16(specs[i].Port)
		out = append(out, p)
	}
	return out
}

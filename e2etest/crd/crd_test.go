package crd_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/util/compatibility"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	basecompatibility "k8s.io/component-base/compatibility"

	"github.com/heraldlb/herald/e2etest/crd"
)

func load(t *testing.T) *crd.Judge {
	t.Helper()
	j, err := crd.Load("../../config/crd/bases")
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// An API server accepts in new rules only what its predecessor knew too, so
// Kubernetes 1.30, the oldest that we install on, wants the CEL of 1.29.
func TestDefinitionsInstallOnTheOldestKubernetes(t *testing.T) {
	effective, _ := compatibility.DefaultComponentGlobalsRegistry.ComponentGlobalsOrRegister(
		basecompatibility.DefaultKubeComponent, compatibility.DefaultBuildEffectiveVersion(), utilfeature.DefaultMutableFeatureGate)
	effective.SetMinCompatibilityVersion(version.MajorMinor(1, 29))
	j := load(t)
	if len(j.Definitions) != 10 {
		t.Errorf("%d definitions, want 10", len(j.Definitions))
	}
	for _, d := range j.Definitions {
		for _, err := range j.Installable(d) {
			t.Errorf("%s: %v", d.Name, err)
		}
	}
}

func pool(address string) string {
	return fmt.Sprintf("{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, spec: {addresses: [%q]}}", address)
}

func peer(spec string) string {
	return "{apiVersion: metallb.io/v1beta2, kind: BGPPeer, spec: " + spec + "}"
}

func object(kind, spec string) string {
	return fmt.Sprintf("{apiVersion: metallb.io/v1beta1, kind: %s, spec: %s}", kind, spec)
}

// What MetalLB accepts, Herald accepts.
func TestAccepted(t *testing.T) {
	j := load(t)
	cases := map[string]string{
		"a pool without optional fields":     pool("10.0.0.0/24"),
		"a peer by address":                  peer("{myASN: 64512, peerASN: 4294967295, peerAddress: 10.0.0.1}"),
		"a peer by mapped address":           peer("{myASN: 64512, peerASN: 1, peerAddress: '::ffff:10.0.0.1'}"),
		"a peer by interface":                peer("{myASN: 64512, dynamicASN: external, interface: eth0}"),
		"an iBGP peer":                       peer("{myASN: 1, peerASN: 1, peerAddress: '2001:db8::1'}"),
		"timers off":                         peer("{myASN: 1, peerASN: 2, peerAddress: 10.0.0.1, holdTime: 0s, keepaliveTime: 0s}"),
		"a hold time alone":                  peer("{myASN: 1, peerASN: 2, peerAddress: 10.0.0.1, holdTime: 3s}"),
		"a keepalive time alone":             peer("{myASN: 1, peerASN: 2, peerAddress: 10.0.0.1, keepaliveTime: 1s}"),
		"keepalive equal to hold":            peer("{myASN: 1, peerASN: 2, peerAddress: 10.0.0.1, holdTime: 1m30s, keepaliveTime: 90s}"),
		"a hold time under a second":         peer("{myASN: 1, peerASN: 2, peerAddress: 10.0.0.1, holdTime: 900ms}"),
		"a hold time longer than BGP's":      peer("{myASN: 1, peerASN: 2, peerAddress: 10.0.0.1, holdTime: 24h}"),
		"a connect time":                     peer("{myASN: 1, peerASN: 2, peerAddress: 10.0.0.1, connectTime: 65535s}"),
		"an IPv6 router ID":                  peer("{myASN: 1, peerASN: 2, peerAddress: 10.0.0.1, routerID: '2001:db8::1'}"),
		"a password beside an empty secret":  peer("{myASN: 1, peerASN: 2, peerAddress: 10.0.0.1, password: x, passwordSecret: {}}"),
		"multi-hop to another AS":            peer("{myASN: 1, peerASN: 2, peerAddress: 10.0.0.1, ebgpMultiHop: true}"),
		"empty strings count as absent":      peer("{myASN: 1, peerASN: 2, peerAddress: 10.0.0.1, interface: '', routerID: '', sourceAddress: ''}"),
		"a peer of the old version":          "{apiVersion: metallb.io/v1beta1, kind: BGPPeer, spec: {myASN: 1, peerASN: 2, peerAddress: 10.0.0.1, peerPort: 0, nodeSelectors: [{matchExpressions: [{key: a, operator: Exists, values: [x]}]}]}}",
		"an L2Advertisement without spec":    "{apiVersion: metallb.io/v1beta1, kind: L2Advertisement}",
		"a BGPAdvertisement without spec":    "{apiVersion: metallb.io/v1beta1, kind: BGPAdvertisement}",
		"a Community without spec":           "{apiVersion: metallb.io/v1beta1, kind: Community}",
		"a BFDProfile without spec":          "{apiVersion: metallb.io/v1beta1, kind: BFDProfile}",
		"service selectors, no aggregation":  object("BGPAdvertisement", "{aggregationLength: 32, aggregationLengthV6: 128, serviceSelectors: [{}]}"),
		"aggregation, no service selectors":  object("BGPAdvertisement", "{aggregationLength: 24, serviceSelectors: []}"),
		"every kind of community":            object("BGPAdvertisement", "{communities: ['65535:65281', '0:0', '00064512:1', 'large:4294967295:0:1', 'a-name', 'vpn blue']}"),
		"names and values of communities":    object("Community", "{communities: [{name: a, value: '65535:666'}, {value: 'large:1:2:3'}]}"),
		"a negative priority":                object("IPAddressPool", "{addresses: [10.0.0.0/24], serviceAllocation: {priority: -5, namespaces: [a, a]}}"),
		"selectors of every operator":        object("L2Advertisement", "{nodeSelectors: [{}, {matchLabels: {a: b}}, {matchExpressions: [{key: a, operator: In, values: [b]}, {key: a, operator: NotIn, values: [b]}, {key: a, operator: Exists}, {key: a, operator: DoesNotExist, values: []}]}]}"),
		"names that are given twice":         object("L2Advertisement", "{ipAddressPools: [a, a], interfaces: [eth0, eth0]}"),
		"a preference":                       object("L2Advertisement", "{preferredNodeSelectors: [{weight: 100, preference: {}}]}"),
		"the limits of a profile":            object("BFDProfile", "{receiveInterval: 10, transmitInterval: 60000, detectMultiplier: 255, echoInterval: 10, minimumTtl: 254}"),
		"a state":                            "{apiVersion: metallb.io/v1beta1, kind: ConfigurationState, status: {result: Valid, conditions: [{type: x, status: 'True', reason: R, message: '', lastTransitionTime: '2026-01-01T00:00:00Z'}]}}",
		"a local preference over 2147483647": object("BGPAdvertisement", "{localPref: 4294967295}"),
		"dynamic neighbours":                 peer("{myASN: 1, dynamicASN: external, peerPrefix: 10.0.0.0/24}"),
		"dynamic neighbours by IPv6":         peer("{myASN: 1, peerASN: 2, peerPrefix: '2001:db8::/64', peerAddress: '', interface: ''}"),
		"a peer that dials":                  peer("{myASN: 1, peerASN: 2, peerAddress: 10.0.0.1, passiveMode: true}"),
		"a direct neighbour":                 peer("{myASN: 1, peerASN: 2, interface: eth0, ttlSecurity: true, ebgpMultiHop: false}"),
		"the limits of attributes":           object("BGPAdvertisement", "{med: 4294967295, asPathPrepend: 10, weightByEndpoints: true, serviceAttributes: [communities, localPref, med, asPathPrepend]}"),
		"attributes of zero":                 object("BGPAdvertisement", "{med: 0, asPathPrepend: 0, serviceAttributes: []}"),
		"extended communities":               object("BGPAdvertisement", "{communities: ['rt:65535:4294967295', 'rt:65536:65535', 'soo:4294967295:0', 'soo:192.0.2.1:65535', 'ext:4004fC0000000000']}"),
		"well-known communities":             object("BGPAdvertisement", "{communities: [graceful-shutdown, no-export, blackhole]}"),
		"names of all sorts of values":       object("Community", "{communities: [{name: a, value: 'rt:64512:1'}, {name: b, value: 'soo:10.0.0.1:1'}, {name: c, value: 'ext:0123456789abcdef'}, {name: d, value: no-peer}, {name: no-export, value: '64512:1'}]}"),
		"a profile with authentication":      object("BFDProfile", "{authentication: {type: MeticulousKeyedSHA1, keyID: 255, secret: {name: s}}}"),
		"nodes of a Service":                 "{apiVersion: metallb.io/v1beta1, kind: ServiceBGPStatus, status: {serviceName: a, peers: [p], nodes: [{node: x, peers: [p]}, {node: z}]}}",
		"a session":                          "{apiVersion: heraldlb.io/v1alpha1, kind: BGPSessionStatus, status: {node: a, peer: p, state: Established, remoteASN: 4294967295, holdTimeSeconds: 0, families: [IPv4, IPv6], sentPrefixes: {ipv4: 1, ipv6: 0}, bfd: {state: Up}}}",
	}
	for _, address := range []string{
		"10.0.0.0/24", "10.0.0.5/24", "10.0.0.0/024", "0.0.0.0/0", "10.0.0.1/32", "2001:db8::/32", "2001:DB8::/32", "::/0", "::1/128",
		"::ffff:10.0.0.0/120", "192.168.9.1-192.168.9.5", "192.168.9.1 - 192.168.9.5", "  192.168.9.1- 192.168.9.5 ", "10.0.0.1-10.0.0.1",
		"2001:db8::1-2001:db8::ffff", "::ffff:10.0.0.1-::ffff:10.0.0.9", "64:ff9b::1.2.3.0/120", "224.0.0.0/4", "fe80::/64",
		// MetalLB takes it, for no address at all; here the entry is a problem
		// that the ConfigurationState names.
		"10.0.0.1-2001:db8::1",
	} {
		cases["the range "+address] = pool(address)
	}
	for name, text := range cases {
		t.Run(name, func(t *testing.T) {
			if _, errs := j.Create(text); len(errs) > 0 {
				t.Errorf("refused: %v", errs)
			}
		})
	}
}

// What is refused, and how it is said.
func TestRefused(t *testing.T) {
	j := load(t)
	const notARange = `is not an address range: expected a CIDR such as 192.168.10.0/24 (a single address is a /32 or a /128), or a range such as 192.168.9.1-192.168.9.5`
	const notARangeEither = `is not an address range: expected two IP addresses of one family joined by a dash, such as 192.168.9.1-192.168.9.5`
	const community = `invalid community value: expected community to be of format 64512:100 (two numbers up to 65535) or large:64512:1:2 (large: and three numbers up to 4294967295), an extended community (rt:64512:100, soo:64512:100 or ext: and 16 hexadecimal digits) or a well-known name such as no-export`
	const extended = `expected an extended community of format rt:64512:100 or soo:64512:100 (32 bits after an AS number of 16 bits, 16 bits after a longer one or an IPv4 address), or ext: and 16 hexadecimal digits`
	sound := "myASN: 1, peerASN: 2, peerAddress: 10.0.0.1"
	for _, tc := range []struct{ name, object, want string }{
		{"no addresses", object("IPAddressPool", "{addresses: []}"), "spec.addresses: Invalid value: 0: spec.addresses in body should have at least 1 items"},
		{"a pool without spec", "{apiVersion: metallb.io/v1beta1, kind: IPAddressPool}", "spec: Required value"},
		{"an address without length", pool("10.0.0.1"), `spec.addresses[0]: Invalid value: "10.0.0.1": "10.0.0.1" ` + notARange},
		{"an octet too large", pool("10.0.0.300/24"), `"10.0.0.300/24" ` + notARange},
		{"a length too long", pool("10.0.0.0/33"), `"10.0.0.0/33" ` + notARange},
		{"an IPv6 length too long", pool("2001:db8::/129"), `"2001:db8::/129" ` + notARange},
		{"a zone", pool("fe80::1%eth0/128"), `"fe80::1%eth0/128" ` + notARange},
		{"a word", pool("example.com"), `"example.com" ` + notARange},
		{"nothing", pool(""), `"" ` + notARange},
		{"spaces around a CIDR", pool(" 10.0.0.0/24"), `" 10.0.0.0/24" ` + notARange},
		{"a range to nowhere", pool("10.0.0.1-"), `spec.addresses[0]: Invalid value: "10.0.0.1-": "10.0.0.1-" ` + notARangeEither},
		{"a range of three", pool("10.0.0.1-10.0.0.2-10.0.0.3"), `"10.0.0.1-10.0.0.2-10.0.0.3" ` + notARangeEither},
		{"a range of CIDRs", pool("10.0.0.0/24-10.0.1.0/24"), notARangeEither},

		{"a peer without spec", "{apiVersion: metallb.io/v1beta2, kind: BGPPeer}", "missing spec: expected at least myASN, peerASN and peerAddress"},
		{"no local AS", peer("{myASN: 0, peerASN: 2, peerAddress: 10.0.0.1}"), "spec.myASN: Invalid value: missing local ASN: expected myASN between 1 and 4294967295"},
		{"no peer AS", peer("{myASN: 1, peerAddress: 10.0.0.1}"), "missing peer ASN and dynamicASN: expected exactly one of peerASN and dynamicASN"},
		{"two peer ASes", peer("{myASN: 1, peerASN: 2, dynamicASN: internal, peerAddress: 10.0.0.1}"), "both peer ASN and dynamicASN specified: expected exactly one of peerASN and dynamicASN"},
		{"an unknown dynamic AS", peer("{myASN: 1, dynamicASN: sideways, peerAddress: 10.0.0.1}"), `spec.dynamicASN: Unsupported value: "sideways": supported values: "internal", "external"`},
		{"no address", peer("{myASN: 1, peerASN: 2}"), "invalid BGPPeer address: expected exactly one of peerAddress, interface and peerPrefix, found none"},
		{"two addresses", peer("{" + sound + ", interface: eth0}"), "invalid BGPPeer address: expected exactly one of peerAddress, interface and peerPrefix, found more than one"},
		{"a hostname", peer("{myASN: 1, peerASN: 2, peerAddress: tor.example.com}"), `spec.peerAddress: Invalid value: "tor.example.com": invalid BGPPeer address "tor.example.com": expected an IP address without a zone`},
		{"a source that is no address", peer("{" + sound + ", sourceAddress: eth0}"), `spec.sourceAddress: Invalid value: "eth0": invalid source address "eth0": expected an IP address without a zone`},
		{"a router ID that is no address", peer("{" + sound + ", routerID: '1'}"), `spec.routerID: Invalid value: "1": invalid router ID "1": expected an IPv4 address`},
		{"two passwords", peer("{" + sound + ", password: a, passwordSecret: {name: b}}"), "both password and passwordSecret specified: expected at most one of them"},
		{"multi-hop iBGP", peer("{myASN: 1, peerASN: 1, peerAddress: 10.0.0.1, ebgpMultiHop: true}"), "spec.ebgpMultiHop: Invalid value: invalid ebgp-multihop parameter set for an ibgp peer: expected ebgpMultiHop false where peerASN equals myASN"},
		{"a short hold time", peer("{" + sound + ", holdTime: 2s}"), `spec.holdTime: Invalid value: "2s": invalid hold time "2s": expected 0s or at least 3s`},
		{"a negative hold time", peer("{" + sound + ", holdTime: -9s}"), `invalid hold time "-9s": expected 0s or at least 3s`},
		{"a hold time that is no duration", peer("{" + sound + ", holdTime: long}"), `spec.holdTime: Invalid value: "long": invalid hold time "long": expected 0s or at least 3s`},
		{"a keepalive time over the hold time", peer("{" + sound + ", holdTime: 30s, keepaliveTime: 31s}"), "spec.keepaliveTime: Invalid value: invalid keepaliveTime: expected at most holdTime"},
		{"a keepalive time too short for a hold time", peer("{" + sound + ", keepaliveTime: 500ms}"), "spec.keepaliveTime: Invalid value: invalid keepaliveTime: expected 0s or at least 1s where holdTime"},
		{"a connect time with a fraction", peer("{" + sound + ", connectTime: 1500ms}"), `spec.connectTime: Invalid value: "1500ms": invalid connect time "1500ms": expected whole seconds between 1s and 65535s`},
		{"a port out of range", peer("{" + sound + ", peerPort: 65536}"), "spec.peerPort: Invalid value: 65536: spec.peerPort in body should be less than or equal to 65535"},
		{"an AS out of range", peer("{myASN: 4294967296, peerASN: 2, peerAddress: 10.0.0.1}"), "spec.myASN in body should be less than or equal to 4294967295"},

		{"an unknown operator", object("L2Advertisement", "{nodeSelectors: [{matchExpressions: [{key: a, operator: Is}]}]}"), `spec.nodeSelectors[0].matchExpressions[0].operator: Invalid value: unknown operator: expected In, NotIn, Exists or DoesNotExist`},
		{"In without values", object("L2Advertisement", "{serviceSelectors: [{matchExpressions: [{key: a, operator: In}]}]}"), "spec.serviceSelectors[0].matchExpressions[0].values: Invalid value: the operators In and NotIn expect at least one value"},
		{"Exists with values", peer("{" + sound + ", nodeSelectors: [{matchExpressions: [{key: a, operator: Exists, values: [b]}]}]}"), "spec.nodeSelectors[0].matchExpressions[0].values: Invalid value: the operators Exists and DoesNotExist expect no values"},
		{"an unknown operator in a pin", object("IPAddressPool", "{addresses: [10.0.0.0/24], serviceAllocation: {namespaceSelectors: [{matchExpressions: [{key: a, operator: Is}]}]}}"), "spec.serviceAllocation.namespaceSelectors[0].matchExpressions[0].operator"},
		{"a weight out of range", object("L2Advertisement", "{preferredNodeSelectors: [{weight: 101, preference: {}}]}"), "spec.preferredNodeSelectors[0].weight in body should be less than or equal to 100"},
		{"service selectors and aggregation", object("BGPAdvertisement", "{aggregationLength: 24, serviceSelectors: [{}]}"), "serviceSelectors and aggregation are mutually exclusive"},
		{"service selectors and IPv6 aggregation", object("BGPAdvertisement", "{aggregationLengthV6: 64, serviceSelectors: [{}]}"), "serviceSelectors and aggregation are mutually exclusive"},
		{"an aggregation length out of range", object("BGPAdvertisement", "{aggregationLength: 33}"), "spec.aggregationLength in body should be less than or equal to 32"},
		{"an IPv6 aggregation length out of range", object("BGPAdvertisement", "{aggregationLengthV6: 129}"), "spec.aggregationLengthV6 in body should be less than or equal to 128"},
		{"a community out of range", object("BGPAdvertisement", "{communities: ['65536:1']}"), `spec.communities[0]: Invalid value: "65536:1": invalid community value "65536:1": expected two numbers up to 65535 (64512:100), large: and three numbers up to 4294967295 (large:64512:1:2), an extended community (rt:64512:100, soo:64512:100 or ext: and 16 hexadecimal digits), or a name`},
		{"three numbers without a word", object("BGPAdvertisement", "{communities: ['1:2:3']}"), `invalid community value "1:2:3"`},
		{"a large community out of range", object("Community", "{communities: [{name: a, value: 'large:4294967296:1:1'}]}"), "spec.communities[0].value: Invalid value: " + community},
		{"a community of another name", object("Community", "{communities: [{name: a, value: blue}]}"), community},
		{"a community without value", object("Community", "{communities: [{name: a}]}"), community},
		{"a profile out of range", object("BFDProfile", "{receiveInterval: 9}"), "spec.receiveInterval in body should be greater than or equal to 10"},
		{"a prefix that is an address", peer("{myASN: 1, peerASN: 2, peerPrefix: 10.0.0.1}"), `spec.peerPrefix: Invalid value: "10.0.0.1": invalid BGPPeer prefix "10.0.0.1": expected a CIDR such as 192.168.10.0/24`},
		{"a prefix and an address", peer("{" + sound + ", peerPrefix: 10.0.0.0/24}"), "expected exactly one of peerAddress, interface and peerPrefix, found more than one"},
		{"a prefix and an interface", peer("{myASN: 1, peerASN: 2, interface: eth0, peerPrefix: 10.0.0.0/24}"), "expected exactly one of peerAddress, interface and peerPrefix, found more than one"},
		{"near and far", peer("{" + sound + ", ttlSecurity: true, ebgpMultiHop: true}"), "spec.ttlSecurity: Invalid value: both ttlSecurity and ebgpMultiHop specified: expected at most one of them"},
		{"a path too long", object("BGPAdvertisement", "{asPathPrepend: 11}"), "spec.asPathPrepend in body should be less than or equal to 10"},
		{"a MED out of range", object("BGPAdvertisement", "{med: 4294967296}"), "spec.med in body should be less than or equal to 4294967295"},
		{"an attribute that does not exist", object("BGPAdvertisement", "{serviceAttributes: [nextHop]}"), `spec.serviceAttributes[0]: Unsupported value: "nextHop"`},
		{"an attribute twice", object("BGPAdvertisement", "{serviceAttributes: [med, med]}"), `Duplicate value: "med"`},
		{"an extended community out of range", object("BGPAdvertisement", "{communities: ['rt:64512:65536000000']}"), `spec.communities[0]: Invalid value: "rt:64512:65536000000": invalid community value "rt:64512:65536000000": ` + extended},
		{"too large a number after a long AS", object("BGPAdvertisement", "{communities: ['soo:65536:65536']}"), extended},
		{"octets that are cut off", object("BGPAdvertisement", "{communities: ['ext:12']}"), extended},
		{"an extended community of a name", object("Community", "{communities: [{name: a, value: 'rt:blue:1'}]}"), "spec.communities[0].value: Invalid value: invalid community value: " + extended},
		{"authentication without a Secret", object("BFDProfile", "{authentication: {type: KeyedSHA1}}"), "spec.authentication.secret: Required value"},
		{"authentication without a name", object("BFDProfile", "{authentication: {type: KeyedSHA1, secret: {name: ''}}}"), "spec.authentication.secret.name in body should be at least 1 chars long"},
		{"authentication without a type", object("BFDProfile", "{authentication: {secret: {name: s}}}"), "spec.authentication.type: Required value"},
		{"an authentication that is too weak", object("BFDProfile", "{authentication: {type: SimplePassword, secret: {name: s}}}"), `spec.authentication.type: Unsupported value: "SimplePassword": supported values: "KeyedSHA1", "MeticulousKeyedSHA1"`},
		{"a key out of range", object("BFDProfile", "{authentication: {type: KeyedSHA1, keyID: 256, secret: {name: s}}}"), "spec.authentication.keyID in body should be less than or equal to 255"},
		{"a node twice", "{apiVersion: metallb.io/v1beta1, kind: ServiceBGPStatus, status: {nodes: [{node: x}, {node: x}]}}", "Duplicate value"},
		{"a session in no state", "{apiVersion: heraldlb.io/v1alpha1, kind: BGPSessionStatus, status: {state: Fine}}", `status.state: Unsupported value: "Fine"`},
		{"an unknown result", "{apiVersion: metallb.io/v1beta1, kind: ConfigurationState, status: {result: Fine}}", `status.result: Unsupported value: "Fine"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, errs := j.Create(tc.object)
			if len(errs) == 0 {
				t.Fatalf("accepted, want %q", tc.want)
			}
			var all []string
			for _, err := range errs {
				all = append(all, err.Error())
			}
			if text := strings.Join(all, "\n"); !strings.Contains(text, tc.want) {
				t.Errorf("refused with\n%s\nwant\n%s", text, tc.want)
			}
		})
	}
}

func TestImmutableFields(t *testing.T) {
	j := load(t)
	graceful := func(yes bool) string {
		return peer(fmt.Sprintf("{myASN: 1, peerASN: 2, peerAddress: 10.0.0.1, enableGracefulRestart: %t}", yes))
	}
	status := func(kind, status string) string {
		return fmt.Sprintf("{apiVersion: metallb.io/v1beta1, kind: %s, status: %s}", kind, status)
	}
	session := func(status string) string {
		return "{apiVersion: heraldlb.io/v1alpha1, kind: BGPSessionStatus, status: " + status + "}"
	}
	for _, tc := range []struct{ name, old, object, want string }{
		{"graceful restart stays", graceful(true), graceful(true), ""},
		{"graceful restart off", graceful(true), graceful(false), "enableGracefulRestart cannot be changed after creation"},
		{"graceful restart on, where it was left out", peer("{myASN: 1, peerASN: 2, peerAddress: 10.0.0.1}"), graceful(true), "enableGracefulRestart cannot be changed after creation"},
		{"a node is set", status("ServiceL2Status", "{}"), status("ServiceL2Status", "{node: a}"), ""},
		{"a node is changed", status("ServiceL2Status", "{node: a}"), status("ServiceL2Status", "{node: b}"), "node cannot be changed after it was set"},
		{"interfaces change", status("ServiceL2Status", "{node: a}"), status("ServiceL2Status", "{node: a, interfaces: [{name: eth0}]}"), ""},
		{"a Service is changed", status("ServiceBGPStatus", "{serviceName: a}"), status("ServiceBGPStatus", "{serviceName: b}"), "serviceName cannot be changed after it was set"},
		{"the nodes of a Service change", status("ServiceBGPStatus", "{nodes: [{node: a}]}"), status("ServiceBGPStatus", "{nodes: [{node: b}], peers: [p]}"), ""},
		{"a session changes", session("{node: a, peer: p, state: Idle}"), session("{node: a, peer: p, state: Established, peerAddress: 10.0.0.1}"), ""},
		{"a session of another node", session("{node: a}"), session("{node: b}"), "node cannot be changed after it was set"},
		{"a session of another peer", session("{peer: a}"), session("{peer: b}"), "peer cannot be changed after it was set"},
		{"a namespace is changed", status("ServiceBGPStatus", "{serviceNamespace: a}"), status("ServiceBGPStatus", "{serviceNamespace: b}"), "serviceNamespace cannot be changed after it was set"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, errs := j.Update(tc.old, tc.object)
			if (tc.want == "") != (len(errs) == 0) || (len(errs) > 0 && !strings.Contains(errs.ToAggregate().Error(), tc.want)) {
				t.Errorf("got %v, want %q", errs, tc.want)
			}
		})
	}
}

func TestDefaults(t *testing.T) {
	j := load(t)
	for _, tc := range []struct {
		name, object string
		want         map[string]any
	}{
		{"a pool", pool("10.0.0.0/24"), map[string]any{"autoAssign": true, "avoidBuggyIPs": false}},
		{"a BGPAdvertisement", object("BGPAdvertisement", "{}"), map[string]any{"aggregationLength": int64(32), "aggregationLengthV6": int64(128)}},
		{"a peer", peer("{myASN: 1, peerASN: 2, peerAddress: 10.0.0.1}"), map[string]any{"peerPort": int64(179), "ebgpMultiHop": false}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			stored, errs := j.Create(tc.object)
			if len(errs) > 0 {
				t.Fatal(errs)
			}
			spec := stored["spec"].(map[string]any)
			for field, want := range tc.want {
				if spec[field] != want {
					t.Errorf("%s = %v (%T), want %v", field, spec[field], spec[field], want)
				}
			}
		})
	}
}

// The samples pass the schema, every kind of them.
func TestSamplesAreAccepted(t *testing.T) {
	j := load(t)
	files, err := filepath.Glob("../../config/samples/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, doc := range strings.Split(string(text), "\n---\n") {
			if strings.Contains(doc, "kind: Kustomization") {
				continue
			}
			object, errs := j.Create(doc)
			if len(errs) > 0 {
				t.Errorf("%s: %v", file, errs)
				continue
			}
			kinds[object["kind"].(string)] = true
		}
	}
	if len(kinds) != 10 {
		t.Errorf("samples of %d kinds, want all 10: %v", len(kinds), kinds)
	}
}

// Names, versions and columns are what MetalLB's users and their scripts know.
func TestDefinitionsLookLikeMetalLBs(t *testing.T) {
	want := map[string]string{
		"ipaddresspools.metallb.io": "v1beta1 stored: Auto Assign boolean .spec.autoAssign, Avoid Buggy IPs boolean .spec.avoidBuggyIPs, Addresses string .spec.addresses",
		"l2advertisements.metallb.io": "v1beta1 stored: IPAddressPools string .spec.ipAddressPools, IPAddressPool Selectors string .spec.ipAddressPoolSelectors, " +
			"Interfaces string .spec.interfaces, Node Selectors string .spec.nodeSelectors 10",
		"bgpadvertisements.metallb.io": "v1beta1 stored: IPAddressPools string .spec.ipAddressPools, IPAddressPool Selectors string .spec.ipAddressPoolSelectors, " +
			"Peers string .spec.peers, Node Selectors string .spec.nodeSelectors 10",
		"bgppeers.metallb.io": "v1beta1 deprecated: Address string .spec.peerAddress, ASN string .spec.peerASN, BFD Profile string .spec.bfdProfile, Multi Hops string .spec.ebgpMultiHop\n" +
			"v1beta2 stored: Address string .spec.peerAddress, ASN string .spec.peerASN, BFD Profile string .spec.bfdProfile, Multi Hops string .spec.ebgpMultiHop",
		"bfdprofiles.metallb.io": "v1beta1 stored: Passive Mode boolean .spec.passiveMode, Transmit Interval integer .spec.transmitInterval, " +
			"Receive Interval integer .spec.receiveInterval, Multiplier integer .spec.detectMultiplier",
		"communities.metallb.io":        "v1beta1 stored: ",
		"servicel2statuses.metallb.io":  "v1beta1 stored: Allocated Node string .status.node, Service Name string .status.serviceName, Service Namespace string .status.serviceNamespace",
		"servicebgpstatuses.metallb.io": "v1beta1 stored: Node string .status.node, Service Name string .status.serviceName, Service Namespace string .status.serviceNamespace, Peers string .status.peers, Nodes string .status.nodes 10",
		"bgpsessionstatuses.heraldlb.io": "v1alpha1 stored: Node string .status.node, Peer string .status.peer, Address string .status.peerAddress, State string .status.state, " +
			"Since date .status.since, BFD string .status.bfd.state, Reason string .status.reason",
		"configurationstates.metallb.io": "v1beta1 stored: Result string .status.result, ErrorSummary string .status.errorSummary, Age date .metadata.creationTimestamp",
	}
	got := map[string]string{}
	for _, d := range load(t).Definitions {
		var versions []string
		for _, v := range d.Spec.Versions {
			versions = append(versions, describe(d, v))
		}
		got[d.Name] = strings.Join(versions, "\n")
		if d.Spec.Scope != apiextensions.NamespaceScoped || d.Spec.Names.Singular != strings.ToLower(d.Spec.Names.Kind) || len(d.Spec.Names.Categories) != 0 {
			t.Errorf("%s: scope %s, names %+v", d.Name, d.Spec.Scope, d.Spec.Names)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// describe writes down one version. What all versions share stands, in the
// internal type, beside them.
func describe(d *apiextensions.CustomResourceDefinition, v apiextensions.CustomResourceDefinitionVersion) string {
	columns, subresources := v.AdditionalPrinterColumns, v.Subresources
	if columns == nil {
		columns = d.Spec.AdditionalPrinterColumns
	}
	if subresources == nil {
		subresources = d.Spec.Subresources
	}
	text := v.Name
	if v.Deprecated {
		text += " deprecated"
	}
	if v.Storage {
		text += " stored"
	}
	if !v.Served || subresources == nil || subresources.Status == nil {
		text += " not served, or without status"
	}
	var list []string
	for _, c := range columns {
		column := c.Name + " " + c.Type + " " + c.JSONPath
		if c.Priority != 0 {
			column += fmt.Sprintf(" %d", c.Priority)
		}
		// The API server adds this one to kinds that name no column.
		if c.JSONPath == ".metadata.creationTimestamp" && len(columns) == 1 {
			continue
		}
		list = append(list, column)
	}
	return text + ": " + strings.Join(list, ", ")
}

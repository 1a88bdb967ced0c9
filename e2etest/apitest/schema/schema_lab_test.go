//go:build lab

package schema

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/e2etest/lab"
)

const root = "../../../"

// kubectl runs kubectl and returns what it prints, errors included.
type kubectl func(t *testing.T, stdin string, args ...string) (out string, ok bool)

func up(t *testing.T) kubectl {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	bin, err := lab.FindBin()
	if err != nil {
		t.Fatal(err)
	}
	cp, err := lab.UpControlPlane(ctx, lab.ControlPlaneOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cp.Down(); err != nil {
			t.Error(err)
		}
	})
	return func(t *testing.T, stdin string, args ...string) (string, bool) {
		t.Helper()
		cmd := exec.CommandContext(ctx, filepath.Join(bin, "kube"), append([]string{"kubectl", "--kubeconfig", cp.Kubeconfig}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		return string(out), err == nil
	}
}

func TestUserMeetsTheKinds(t *testing.T) {
	kubectl := up(t)
	must := func(t *testing.T, stdin string, args ...string) string {
		t.Helper()
		out, ok := kubectl(t, stdin, args...)
		if !ok {
			t.Fatalf("kubectl %s:\n%s", strings.Join(args, " "), out)
		}
		return out
	}
	must(t, "", "create", "namespace", "metallb-system")
	must(t, "", "apply", "-k", root+"config/crd")
	must(t, "", "wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
	// Applying a second time, by the other way too, changes nothing.
	if out := must(t, "", "apply", "-k", root+"config/crd"); strings.Contains(out, "configured") {
		t.Errorf("applying the definitions again changes them:\n%s", out)
	}
	must(t, "", "apply", "--server-side", "--force-conflicts", "-k", root+"config/crd")
	must(t, "", "apply", "-k", root+"config/samples")
	for _, kind := range []string{"servicel2status", "servicebgpstatus", "configurationstate", "bgpsessionstatus"} {
		file := root + "config/samples/" + kind + ".yaml"
		must(t, "", "apply", "-f", file)
		must(t, "", "apply", "--server-side", "--force-conflicts", "--subresource=status", "-f", file)
	}

	for _, tc := range []struct{ name, args, want string }{
		{"columns of a pool", "get ipap everybody", "AUTO ASSIGN   AVOID BUGGY IPS   ADDRESSES"},
		{"columns of an L2Advertisement", "get l2adv -o wide", "NODE SELECTORS"},
		{"columns of a BGPAdvertisement", "get bgpadv", "IPADDRESSPOOL SELECTORS"},
		{"columns of a peer, in its stored version", "get lbpeer rack-a", "192.168.1.1   64600"},
		{"columns of a profile", "get bfdp", "TRANSMIT INTERVAL"},
		{"a Community", "get bgpcomm", "well-known"},
		{"a status sample", "get svcl2", "l2-x7k2p"},
		{"another status sample", "get svcbgp", "bgp-m4q9z"},
		{"the peers of a Service, by any node", "get svcbgp", `["rack-a","unnumbered"]`},
		{"the nodes of a Service", "get svcbgp -o wide", `{"node":"node-b","peers":["unnumbered"]}`},
		{"a session", "get bgpsess", "node-a   rack-a   192.168.1.1   Established"},
		{"a state", "get cfgstate", "controller"},
		{"an explanation", "explain ipaddresspool.spec.serviceAllocation.priority", "the lowest"},
		{"an explanation of a list", "explain bgppeer.spec.nodeSelectors.matchExpressions.operator", "In, NotIn, Exists or DoesNotExist"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out := must(t, "", append([]string{"-n", "metallb-system"}, strings.Fields(tc.args)...)...)
			if !strings.Contains(out, tc.want) {
				t.Errorf("kubectl %s: want %q in\n%s", tc.args, tc.want, out)
			}
		})
	}

	for _, tc := range []struct{ name, object, want string }{
		{"a malformed range", `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: bad, namespace: metallb-system}
spec: {addresses: [10.9.0.0/24, 10.0.0.300-10.0.0.400]}`,
			`spec.addresses[1]: Invalid value: "10.0.0.300-10.0.0.400": "10.0.0.300-10.0.0.400" is not an address range: expected two IP addresses of one family joined by a dash`},
		{"an unknown field", `
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: bad, namespace: metallb-system}
spec: {pools: [a]}`, `unknown field "spec.pools"`},
		{"a peer that contradicts itself", `
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: bad, namespace: metallb-system}
spec: {myASN: 64512, peerASN: 1, dynamicASN: internal, peerAddress: 10.0.0.1}`,
			"both peer ASN and dynamicASN specified: expected exactly one of peerASN and dynamicASN"},
		{"neighbours that are one and many", `
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: bad, namespace: metallb-system}
spec: {myASN: 64512, peerASN: 1, peerPrefix: 10.0.0.0/24, peerAddress: 10.0.0.1}`,
			"invalid BGPPeer address: expected exactly one of peerAddress, interface and peerPrefix, found more than one"},
		{"a community that is cut off", `
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: bad, namespace: metallb-system}
spec: {communities: ["rt:64512"]}`,
			`invalid community value "rt:64512": expected an extended community of format rt:64512:100`},
		// Nobody serves the conversion here. The other way to go on would be to
		// drop fields without a word.
		{"the old version, while nobody converts", `
apiVersion: metallb.io/v1beta1
kind: BGPPeer
metadata: {name: old, namespace: metallb-system}
spec: {myASN: 64512, peerASN: 1, peerAddress: 10.0.0.1}`,
			`conversion webhook for metallb.io/v1beta1, Kind=BGPPeer failed`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, ok := kubectl(t, tc.object, "apply", "-f", "-")
			if ok || !strings.Contains(out, tc.want) {
				t.Errorf("accepted %t, want %q in\n%s", ok, tc.want, out)
			}
		})
	}
	// A failing conversion harms nobody who does not ask for it.
	must(t, "", "-n", "metallb-system", "get", "bgppeers.v1beta2.metallb.io", "rack-a")
	must(t, "", "-n", "metallb-system", "label", "bgppeer", "rack-a", "seen=yes")
	must(t, "", "delete", "-k", root+"config/samples")
}

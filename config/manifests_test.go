// Package config_test holds the manifests to what they promise: the rights are
// those that the code uses, and the pods run as tightly as the comments say.
package config_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"
)

// object is one rendered object: enough of it to choose, and its text to decode.
type object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string            `json:"name"`
		Namespace string            `json:"namespace"`
		Labels    map[string]string `json:"labels"`
	} `json:"metadata"`
	text []byte
}

// render builds a kustomization with the pinned kustomize.
func render(t *testing.T, dir string) []object {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "tool", "-modfile=tools/go.mod", "kustomize", "build", "config/"+dir)
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("kustomize build config/%s: %v\n%s", dir, err, exit.Stderr)
		}
		t.Fatalf("kustomize build config/%s: %v", dir, err)
	}
	var objects []object
	for docs := yaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(out))); ; {
		buf := make([]byte, len(out))
		n, err := docs.Read(buf)
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatalf("split the rendered objects: %v", err)
		}
		o := object{text: buf[:n]}
		if err := sigsyaml.Unmarshal(o.text, &o); err != nil {
			t.Fatalf("read a rendered object: %v\n%s", err, o.text)
		}
		objects = append(objects, o)
	}
}

// decode reads an object strictly: a field that the kind does not have is an error.
func decode[T any](t *testing.T, objects []object, kind, name string) T {
	t.Helper()
	var out T
	i := slices.IndexFunc(objects, func(o object) bool { return o.Kind == kind && o.Metadata.Name == name })
	if i < 0 {
		t.Fatalf("there is no %s %s", kind, name)
	}
	if err := sigsyaml.UnmarshalStrict(objects[i].text, &out); err != nil {
		t.Fatalf("%s %s: %v", kind, name, err)
	}
	return out
}

func TestEverythingHasMetalLBsNamesAndLabel(t *testing.T) {
	objects := render(t, "default")
	var got []string
	for _, o := range objects {
		if o.Metadata.Labels["app"] != "metallb" {
			t.Errorf("%s %s lacks the label app=metallb", o.Kind, o.Metadata.Name)
		}
		if o.Kind == "CustomResourceDefinition" {
			continue
		}
		got = append(got, strings.TrimPrefix(o.Kind+" "+o.Metadata.Namespace+"/"+o.Metadata.Name, " "))
	}
	want := []string{
		"ClusterRole /metallb-system:controller", "ClusterRole /metallb-system:metrics-auth",
		"ClusterRole /metallb-system:metrics-reader", "ClusterRole /metallb-system:speaker",
		"ClusterRoleBinding /metallb-system:controller", "ClusterRoleBinding /metallb-system:metrics-auth",
		"ClusterRoleBinding /metallb-system:speaker",
		"ConfigMap metallb-system/metallb-excludel2",
		"DaemonSet metallb-system/speaker", "Deployment metallb-system/controller",
		"Namespace /metallb-system", "PodDisruptionBudget metallb-system/controller",
		"Role metallb-system/controller", "Role metallb-system/speaker",
		"RoleBinding metallb-system/controller", "RoleBinding metallb-system/speaker",
		"ServiceAccount metallb-system/controller", "ServiceAccount metallb-system/speaker",
	}
	slices.Sort(got)
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	crds, err := filepath.Glob("crd/bases/*.yaml")
	if err != nil || len(crds) != 10 {
		t.Errorf("%d definitions in crd/bases (%v), want the nine kinds of metallb.io and the one of heraldlb.io", len(crds), err)
	}
	if rendered := len(objects) - len(got); rendered != len(crds) {
		t.Errorf("%d definitions are rendered, want %d: name them in crd/kustomization.yaml", rendered, len(crds))
	}
}

// need is a right, and the line of code in a folder that needs it.
type need struct {
	scope, group, resource string
	verbs                  string
	folder, evidence       string
}

const lib = "" // the need comes from client-go or controller-runtime

var needs = map[string][]need{
	"controller": {
		{"cluster", "", "services", "list watch", "controller", "{&corev1.Service{}, func"},
		{"cluster", "", "services/status", "patch", "controller", `WithKind("Service"), key.Namespace`},
		{"cluster", "", "namespaces", "list watch", "controller", "{&corev1.Namespace{}, func"},
		{"cluster", "events.k8s.io", "events", "create", "controller", "k.client.Create(ctx, e)"},
		{"namespace", "metallb.io", "ipaddresspools", "list watch", "controller", "{&v1beta1.IPAddressPool{}, onConfig}"},
		{"namespace", "metallb.io", "l2advertisements", "list watch", "controller", "{&v1beta1.L2Advertisement{}, onConfig}"},
		{"namespace", "metallb.io", "bgpadvertisements", "list watch", "controller", "{&v1beta1.BGPAdvertisement{}, onConfig}"},
		{"namespace", "metallb.io", "bfdprofiles", "list watch", "controller", "{&v1beta1.BFDProfile{}, onConfig}"},
		{"namespace", "metallb.io", "communities", "list watch", "controller", "{&v1beta1.Community{}, onConfig}"},
		{"namespace", "metallb.io", "ipaddresspools/status", "patch", "controller", `mergeStatus(ctx, "IPAddressPool"`},
		{"namespace", "metallb.io", "configurationstates", "list watch", "controller", "{&v1beta1.ConfigurationState{}, func"},
		{"namespace", "metallb.io", "configurationstates", "create", "controller", "k.client.Create(ctx, &v1beta1.ConfigurationState{"},
		{"namespace", "metallb.io", "configurationstates/status", "patch", "controller", `mergeStatus(ctx, "ConfigurationState"`},
		{"namespace", "", "secrets", "create", "controller", "k.client.Create(ctx, &corev1.Secret{"},
		{"namespace", "", "secrets memberlist", "get", "controller", "&have)"},
		{"namespace", "apps", "deployments controller", "get", "controller", `Kind: "Deployment"`},
		{"namespace", "coordination.k8s.io", "leases", "create", "controller", "opts.LeaderElection = leaseName"},
		{"namespace", "coordination.k8s.io", "leases metallb-controller", "get update", "controller", `leaseName = "metallb-controller"`},
		{"namespace", "", "events", "create patch", lib, "leader election records who leads"},
	},
	"speaker": {
		{"cluster", "", "services", "list watch", "speaker", "&corev1.Service{}: "},
		{"cluster", "", "services/status", "patch", "speaker/report", `WithKind("Service"), key.Namespace`},
		{"cluster", "discovery.k8s.io", "endpointslices", "list watch", "speaker", "&discoveryv1.EndpointSlice{}: handler"},
		{"cluster", "", "nodes", "list watch", "speaker", "handler(in.node)"},
		{"cluster", "events.k8s.io", "events", "create", "speaker/report", "k.client.Create(ctx, e)"},
		{"namespace", "metallb.io", "ipaddresspools", "list watch", "speaker", "&v1beta1.IPAddressPool{}"},
		{"namespace", "metallb.io", "l2advertisements", "list watch", "speaker", "&v1beta1.L2Advertisement{}"},
		{"namespace", "metallb.io", "bgpadvertisements", "list watch", "speaker", "&v1beta1.BGPAdvertisement{}"},
		{"namespace", "metallb.io", "bgppeers", "list watch", "speaker", "&v1beta2.BGPPeer{}"},
		{"namespace", "metallb.io", "bfdprofiles", "list watch", "speaker", "&v1beta1.BFDProfile{}"},
		{"namespace", "metallb.io", "communities", "list watch", "speaker", "&v1beta1.Community{}"},
		{"namespace", "metallb.io", "servicel2statuses", "list watch", "speaker/report", "{&v1beta1.ServiceL2Status{}, func"},
		{"namespace", "metallb.io", "servicel2statuses", "create", "speaker/report", "createStatus(ctx context.Context, s *v1beta1.ServiceL2Status)"},
		{"namespace", "metallb.io", "servicel2statuses", "delete", "speaker/report", "k.client.Delete(ctx, &v1beta1.ServiceL2Status{"},
		{"namespace", "metallb.io", "servicel2statuses/status", "patch", "speaker/report", `WithKind("ServiceL2Status")`},
		{"namespace", "metallb.io", "servicebgpstatuses", "list watch", "speaker/report", "{&v1beta1.ServiceBGPStatus{}, func"},
		{"namespace", "metallb.io", "servicebgpstatuses", "create", "speaker/report", "createBGPStatus(ctx context.Context, s *v1beta1.ServiceBGPStatus)"},
		{"namespace", "metallb.io", "servicebgpstatuses", "delete", "speaker/report", "k.client.Delete(ctx, &v1beta1.ServiceBGPStatus{"},
		{"namespace", "metallb.io", "servicebgpstatuses/status", "patch", "speaker/report", `WithKind("ServiceBGPStatus")`},
		{"namespace", "heraldlb.io", "bgpsessionstatuses", "list watch", "speaker/report", "{&v1alpha1.BGPSessionStatus{}, func"},
		{"namespace", "heraldlb.io", "bgpsessionstatuses", "create", "speaker/report", "createSession(ctx context.Context, s *v1alpha1.BGPSessionStatus)"},
		{"namespace", "heraldlb.io", "bgpsessionstatuses", "delete", "speaker/report", "k.client.Delete(ctx, &v1alpha1.BGPSessionStatus{"},
		{"namespace", "heraldlb.io", "bgpsessionstatuses/status", "patch", "speaker/report", `WithKind("BGPSessionStatus")`},
		{"namespace", "metallb.io", "configurationstates", "list watch", "speaker/report", "{&v1beta1.ConfigurationState{}, func"},
		{"namespace", "metallb.io", "configurationstates", "create", "speaker/report", "createState(ctx context.Context, s *v1beta1.ConfigurationState)"},
		{"namespace", "metallb.io", "configurationstates/status", "patch", "speaker/report", `WithKind("ConfigurationState")`},
		{"namespace", "", "secrets", "list watch", "speaker", "handler(func(*corev1.Secret, bool)"},
		{"namespace", "", "pods", "list watch", "speaker", "handlers[&corev1.Pod{}]"},
		{"namespace", "", "pods", "get", "speaker/report", "k.reader.Get("},
	},
}

// both programs ask the API server who asks for metrics.
var bothNeed = []need{
	{"cluster", "authentication.k8s.io", "tokenreviews", "create", "internal/manager", "tokens.Create("},
	{"cluster", "authorization.k8s.io", "subjectaccessreviews", "create", "internal/manager", "access.Create("},
}

// granted lists what the bindings give an account, one right a line.
func granted(t *testing.T, objects []object, account string) []string {
	t.Helper()
	var out []string
	for _, o := range objects {
		if o.Kind != "RoleBinding" && o.Kind != "ClusterRoleBinding" {
			continue
		}
		binding := decode[rbacv1.ClusterRoleBinding](t, []object{o}, o.Kind, o.Metadata.Name)
		ours := rbacv1.Subject{Kind: "ServiceAccount", Name: account, Namespace: "metallb-system"}
		if !slices.Contains(binding.Subjects, ours) {
			continue
		}
		scope := "cluster"
		if o.Kind == "RoleBinding" {
			scope = "namespace"
		}
		role := decode[rbacv1.ClusterRole](t, objects, binding.RoleRef.Kind, binding.RoleRef.Name)
		for _, r := range role.Rules {
			out = append(out, rights(scope, r)...)
		}
	}
	slices.Sort(out)
	return out
}

func rights(scope string, r rbacv1.PolicyRule) []string {
	var out []string
	for _, group := range r.APIGroups {
		for _, resource := range r.Resources {
			for _, verb := range r.Verbs {
				names := r.ResourceNames
				if len(names) == 0 {
					names = []string{""}
				}
				for _, name := range names {
					out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s/%s %s %s", scope, group, resource, verb, name)))
				}
			}
		}
	}
	return out
}

func TestRightsAreThoseThatTheCodeUses(t *testing.T) {
	objects := render(t, "default")
	for account, list := range needs {
		t.Run(account, func(t *testing.T) {
			var want []string
			for _, n := range slices.Concat(list, bothNeed) {
				resource, name, _ := strings.Cut(n.resource, " ")
				rule := rbacv1.PolicyRule{APIGroups: []string{n.group}, Resources: []string{resource}, Verbs: strings.Fields(n.verbs)}
				if name != "" {
					rule.ResourceNames = []string{name}
				}
				want = append(want, rights(n.scope, rule)...)
				if n.folder != lib && !bytes.Contains(codeOf(t, n.folder), []byte(n.evidence)) {
					t.Errorf("%s no longer contains %q: is %s %s still needed?", n.folder, n.evidence, n.verbs, n.resource)
				}
			}
			slices.Sort(want)
			if diff := gocmp.Diff(want, granted(t, objects, account)); diff != "" {
				t.Errorf("what the code needs and what is granted differ (-need +granted)\n%s", diff)
			}
		})
	}
}

// codeOf is all the code of a folder but its tests.
func codeOf(t *testing.T, folder string) []byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(folder), "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		code, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, code...)
	}
	return all
}

// Each rule stands below a comment that says why it is there.
func TestEveryRuleSaysWhy(t *testing.T) {
	files, err := filepath.Glob("rbac/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no RBAC files: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(text), "\n")
		for i, line := range lines {
			if (strings.HasPrefix(line, "  - apiGroups:") || strings.HasPrefix(line, "  - nonResourceURLs:")) &&
				!strings.HasPrefix(lines[i-1], "  # ") && !strings.HasPrefix(lines[i-1], "    verbs:") {
				t.Errorf("%s:%d: the rule does not say why", file, i+1)
			}
		}
	}
}

func podsOf(t *testing.T, objects []object) map[string]corev1.PodTemplateSpec {
	t.Helper()
	return map[string]corev1.PodTemplateSpec{
		"controller": decode[appsv1.Deployment](t, objects, "Deployment", "controller").Spec.Template,
		"speaker":    decode[appsv1.DaemonSet](t, objects, "DaemonSet", "speaker").Spec.Template,
	}
}

func TestPodsRunAsTightlyAsPromised(t *testing.T) {
	for name, pod := range podsOf(t, render(t, "default")) {
		t.Run(name, func(t *testing.T) {
			if want := map[string]string{"app": "metallb", "component": name}; !maps.Equal(pod.Labels, want) {
				t.Errorf("labels %v, want %v", pod.Labels, want)
			}
			spec := pod.Spec
			if spec.ServiceAccountName != name {
				t.Errorf("service account %q, want %q", spec.ServiceAccountName, name)
			}
			if spec.SecurityContext.SeccompProfile == nil || spec.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
				t.Error("the runtime's seccomp profile is not asked for")
			}
			if spec.HostPID || spec.HostIPC {
				t.Error("the pod sees the host's processes")
			}
			if len(spec.Containers) != 1 || len(spec.InitContainers) != 0 {
				t.Fatal("want one container")
			}
			c := spec.Containers[0]
			sc := c.SecurityContext
			if sc.Privileged != nil || *sc.AllowPrivilegeEscalation || !*sc.ReadOnlyRootFilesystem {
				t.Error("the container may escalate, or write to its root file system")
			}
			if diff := gocmp.Diff([]corev1.Capability{"ALL"}, sc.Capabilities.Drop); diff != "" {
				t.Errorf("dropped capabilities (-want +got)\n%s", diff)
			}
			if c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() {
				t.Error("the scheduler does not know what the container needs")
			}
			for _, e := range c.Env {
				if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
					t.Errorf("variable %s carries a secret; mount it instead", e.Name)
				}
			}
		})
	}
}

func TestControllerIsNotRoot(t *testing.T) {
	pod := podsOf(t, render(t, "default"))["controller"].Spec
	sc := pod.SecurityContext
	if !*sc.RunAsNonRoot || *sc.RunAsUser != 65534 || *sc.RunAsGroup != 65534 {
		t.Errorf("the controller runs as %+v", sc)
	}
	if len(pod.Containers[0].SecurityContext.Capabilities.Add) != 0 || pod.HostNetwork {
		t.Error("the controller has capabilities, or the host's network")
	}
}

func TestSpeakerHasRawSocketsAndNoMore(t *testing.T) {
	pod := podsOf(t, render(t, "default"))["speaker"].Spec
	if diff := gocmp.Diff([]corev1.Capability{"NET_RAW"}, pod.Containers[0].SecurityContext.Capabilities.Add); diff != "" {
		t.Errorf("added capabilities (-want +got)\n%s", diff)
	}
	if !pod.HostNetwork {
		t.Error("the speaker answers for the node's links and needs its network")
	}
	for _, v := range pod.Volumes {
		if v.HostPath != nil {
			t.Errorf("volume %s is a folder of the host", v.Name)
		}
		if v.Secret != nil && (!*v.Secret.Optional || *v.Secret.DefaultMode != 0o400) {
			t.Errorf("secret %s: want it optional, because the controller makes it, and readable by its owner only", v.Name)
		}
	}
}

func TestProbesAskWhereTheServersListen(t *testing.T) {
	for name, host := range map[string]string{"controller": "", "speaker": "127.0.0.1"} {
		c := podsOf(t, render(t, "default"))[name].Spec.Containers[0]
		for path, probe := range map[string]*corev1.Probe{"/healthz": c.LivenessProbe, "/readyz": c.ReadinessProbe} {
			if probe == nil || probe.HTTPGet == nil {
				t.Fatalf("%s has no probe of %s", name, path)
			}
			if g := probe.HTTPGet; g.Path != path || g.Port.IntValue() != 17472 || g.Host != host {
				t.Errorf("%s: probe %s asks %s:%s%s", name, path, cmp.Or(g.Host, "the pod"), g.Port.String(), g.Path)
			}
		}
	}
}

func TestOverlaysRender(t *testing.T) {
	for overlay, kinds := range map[string][]string{
		"overlays/prometheus":       {"ServiceMonitor", "PrometheusRule"},
		"overlays/network-policies": {"NetworkPolicy"},
	} {
		objects := render(t, overlay)
		for _, kind := range kinds {
			if !slices.ContainsFunc(objects, func(o object) bool { return o.Kind == kind }) {
				t.Errorf("config/%s renders no %s", overlay, kind)
			}
		}
		for _, o := range objects {
			if o.Kind == "NetworkPolicy" && o.Metadata.Namespace != "metallb-system" {
				t.Errorf("config/%s: %s %s is in namespace %q", overlay, o.Kind, o.Metadata.Name, o.Metadata.Namespace)
			}
		}
	}
}

// Only who lets routers dial gives the speaker the right to listen on port 179.
func TestPassivePeersNeedOneRightMore(t *testing.T) {
	pod := podsOf(t, render(t, "overlays/bgp-passive"))["speaker"]
	want := []corev1.Capability{"NET_RAW", "NET_BIND_SERVICE"}
	if diff := gocmp.Diff(want, pod.Spec.Containers[0].SecurityContext.Capabilities.Add); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestImageTagStandsInOnePlace(t *testing.T) {
	tags := map[string]bool{}
	for name, pod := range podsOf(t, render(t, "default")) {
		image, tag, ok := strings.Cut(pod.Spec.Containers[0].Image, ":")
		if want := "ghcr.io/heraldlb/" + name; image != want || !ok {
			t.Errorf("image %q, want %s with a tag", pod.Spec.Containers[0].Image, want)
		}
		tags[tag] = true
	}
	if len(tags) != 1 {
		t.Errorf("the two programs are of different releases: %v", slices.Collect(maps.Keys(tags)))
	}
}

package agent

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// fakeObjects holds the Secrets and ConfigMaps of a namespace.
type fakeObjects struct {
	secrets    map[string]*corev1.Secret
	configMaps map[string]*corev1.ConfigMap
}

func (f fakeObjects) Secret(name string) (*corev1.Secret, error) { return f.secrets[name], nil }
func (f fakeObjects) ConfigMap(name string) (*corev1.ConfigMap, error) {
	return f.configMaps[name], nil
}

func testFacts() podFacts {
	return podFacts{
		pod: &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "speaker-x", Namespace: "metallb-system", UID: "u-1",
				Labels: map[string]string{"app": "speaker", "b": `say "hi"`}, Annotations: map[string]string{"note": "n"}},
			Spec: corev1.PodSpec{NodeName: "node1", ServiceAccountName: "speaker", Containers: []corev1.Container{{
				Name: "c", Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{"cpu": resource.MustParse("1500m"), "memory": resource.MustParse("100Mi")}}}}},
		},
		hostIPs:     []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
		podIPs:      []netip.Addr{netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("fd00::7")},
		allocatable: corev1.ResourceList{"cpu": resource.MustParse("4")},
	}
}

func fieldEnv(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
}

func TestContainerEnvironment(t *testing.T) {
	objs := fakeObjects{
		secrets:    map[string]*corev1.Secret{"key": {Data: map[string][]byte{"k": []byte("s3cret"), "j": []byte("2")}}},
		configMaps: map[string]*corev1.ConfigMap{"cfg": {Data: map[string]string{"LEVEL": "debug", "A": "from-config"}}},
	}
	services := []*corev1.Service{{ObjectMeta: metav1.ObjectMeta{Name: "kube-dns"}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.10",
		Ports: []corev1.ServicePort{{Name: "dns-tcp", Port: 53, Protocol: corev1.ProtocolTCP}}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "headless"}, Spec: corev1.ServiceSpec{ClusterIP: "None", Ports: []corev1.ServicePort{{Port: 1}}}}}
	c := &corev1.Container{
		Name: "c", Resources: testFacts().pod.Spec.Containers[0].Resources,
		EnvFrom: []corev1.EnvFromSource{
			{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"}}},
			{Prefix: "S_", SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "key"}}},
			{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "absent"}, Optional: ptr.To(true)}},
		},
		Env: []corev1.EnvVar{
			{Name: "A", Value: "own"},
			{Name: "B", Value: "$(A)-$(KUBE_DNS_SERVICE_HOST)-$(LATER)"},
			{Name: "LATER", Value: "x"},
			fieldEnv("NODE", "spec.nodeName"), fieldEnv("IPS", "status.podIPs"), fieldEnv("HOST", "status.hostIP"),
			fieldEnv("LABEL", "metadata.labels['app']"),
			{Name: "KEY", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "key"}, Key: "k"}}},
			{Name: "NOKEY", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "key"}, Key: "absent", Optional: ptr.To(true)}}},
			{Name: "CPU", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu"}}},
			{Name: "MILLI", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu", Divisor: resource.MustParse("1m")}}},
			{Name: "MIB", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.memory", Divisor: resource.MustParse("1Mi")}}},
		},
	}
	env, err := containerEnv(testFacts(), c, []string{"PATH=/bin"}, services, objs)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"PATH=/bin", "HOSTNAME=speaker-x",
		"KUBE_DNS_SERVICE_HOST=10.96.0.10", "KUBE_DNS_SERVICE_PORT=53", "KUBE_DNS_SERVICE_PORT_DNS_TCP=53", "KUBE_DNS_PORT=tcp://10.96.0.10:53",
		"KUBE_DNS_PORT_53_TCP=tcp://10.96.0.10:53", "KUBE_DNS_PORT_53_TCP_PROTO=tcp", "KUBE_DNS_PORT_53_TCP_PORT=53", "KUBE_DNS_PORT_53_TCP_ADDR=10.96.0.10",
		"A=own", "LEVEL=debug", "S_j=2", "S_k=s3cret",
		"B=own-10.96.0.10-$(LATER)", "LATER=x", "NODE=node1", "IPS=10.0.0.7,fd00::7", "HOST=192.0.2.1", "LABEL=speaker", "KEY=s3cret",
		"CPU=2", "MILLI=1500", "MIB=100",
	}
	if diff := cmp.Diff(want, env.list()); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}

func TestMissingSourcesAreNamed(t *testing.T) {
	tests := []struct {
		name string
		env  corev1.EnvVar
		want string
	}{
		{"a Secret", corev1.EnvVar{Name: "K", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "memberlist"}, Key: "secretkey"}}},
			`environment variable K: Secret "memberlist" not found`},
		{"a key", corev1.EnvVar{Name: "K", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"}, Key: "x"}}},
			`environment variable K: key x of ConfigMap "cfg" not found`},
		{"a field", fieldEnv("F", "spec.nodename"), `field "spec.nodename" is not one`},
	}
	objs := fakeObjects{configMaps: map[string]*corev1.ConfigMap{"cfg": {}}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := containerEnv(testFacts(), &corev1.Container{Env: []corev1.EnvVar{tt.env}}, nil, nil, objs)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestDownwardFiles(t *testing.T) {
	got, err := downwardPayload([]corev1.DownwardAPIVolumeFile{
		{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}},
		{Path: "sub/uid", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.uid"}, Mode: ptr.To[int32](0o400)},
		{Path: "cpu", ResourceFieldRef: &corev1.ResourceFieldSelector{ContainerName: "c", Resource: "requests.cpu"}},
	}, nil, testFacts())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"labels": "app=\"speaker\"\nb=\"say \\\"hi\\\"\"", "sub/uid": "u-1", "cpu": "0"}
	for path, content := range want {
		if string(got[path].data) != content {
			t.Errorf("%s holds %q, want %q", path, got[path].data, content)
		}
	}
	if got["sub/uid"].mode != 0o400 || got["labels"].mode != 0o644 {
		t.Errorf("modes %o and %o, want 400 and 644", got["sub/uid"].mode, got["labels"].mode)
	}
}

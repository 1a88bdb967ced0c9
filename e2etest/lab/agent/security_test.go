package agent

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/heraldlb/herald/e2etest/lab/agent/sandbox"
)

func TestIdentityFromSecurityContexts(t *testing.T) {
	netRaw, err := sandbox.ParseCap("NET_RAW")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		pod   *corev1.PodSecurityContext
		own   *corev1.SecurityContext
		image string
		want  sandbox.Identity
		err   string
	}{
		{name: "nothing said is root with the runtime's capabilities", want: sandbox.Identity{Groups: []uint32{0}, Caps: sandbox.DefaultCaps}},
		{name: "the image's user", image: "65532:65531", want: sandbox.Identity{UID: 65532, GID: 65531, Groups: []uint32{65531}, Caps: sandbox.DefaultCaps}},
		{name: "the pod wins over the image, the container over the pod", image: "1", pod: &corev1.PodSecurityContext{RunAsUser: ptr.To[int64](2), RunAsGroup: ptr.To[int64](3), FSGroup: ptr.To[int64](4), SupplementalGroups: []int64{5}},
			own: &corev1.SecurityContext{RunAsUser: ptr.To[int64](6)}, want: sandbox.Identity{UID: 6, GID: 3, Groups: []uint32{3, 5, 4}, Caps: sandbox.DefaultCaps}},
		{name: "the speaker: root with raw sockets only", own: &corev1.SecurityContext{AllowPrivilegeEscalation: ptr.To(false),
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_RAW"}}},
			want: sandbox.Identity{Groups: []uint32{0}, Caps: netRaw, NoNewPrivs: true}},
		{name: "privileged", own: &corev1.SecurityContext{Privileged: ptr.To(true)}, want: sandbox.Identity{Groups: []uint32{0}, Caps: sandbox.AllCaps}},
		{name: "non-root demanded and root found", pod: &corev1.PodSecurityContext{RunAsNonRoot: ptr.To(true)}, err: "would run as root"},
		{name: "non-root demanded and given", pod: &corev1.PodSecurityContext{RunAsNonRoot: ptr.To(true)}, image: "9", want: sandbox.Identity{UID: 9, Groups: []uint32{0}, Caps: sandbox.DefaultCaps}},
		{name: "an unknown capability", own: &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"RAW"}}}, err: `"RAW" is not known`},
		{name: "a user by name", image: "nobody", err: "expected a number"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pod := &corev1.Pod{Spec: corev1.PodSpec{SecurityContext: tt.pod}}
			got, err := identityOf(pod, &corev1.Container{SecurityContext: tt.own}, tt.image)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want %q in it", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("identity (-want +got):\n%s", diff)
			}
		})
	}
}

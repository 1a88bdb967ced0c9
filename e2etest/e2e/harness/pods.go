//go:build lab

package harness

import (
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/e2etest/lab"
)

// Echo creates a deployment of echo servers with the label app=NAME, on the given
// nodes or wherever the scheduler likes, and waits until all are ready. With
// nodes, replicas are spread over exactly these.
func (h *Test) Echo(name string, replicas int32, nodes ...string) {
	h.Helper()
	labels := map[string]string{"app": name}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: h.Namespace},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					Containers: []corev1.Container{{Name: "echo", Image: lab.EchoImage}},
					// A node that does not answer keeps its pods: the tests are about
					// addresses, and the pods are to stay where they are.
					TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
						MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway,
						LabelSelector: &metav1.LabelSelector{MatchLabels: labels},
					}},
				},
			},
		},
	}
	if len(nodes) > 0 {
		d.Spec.Template.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: nodes}},
			}}},
		}}
	}
	_, err := h.Kube.AppsV1().Deployments(h.Namespace).Create(h.Ctx, d, metav1.CreateOptions{})
	h.Must(err)
	h.Eventually(2*Patience, func() error {
		d, err := h.Kube.AppsV1().Deployments(h.Namespace).Get(h.Ctx, name, metav1.GetOptions{})
		if err == nil && d.Status.ReadyReplicas != replicas {
			err = fmt.Errorf("deployment %s: %d of %d pods are ready", name, d.Status.ReadyReplicas, replicas)
		}
		return err
	})
}

// Endpoint gives a Service a made-up endpoint on each of the nodes, for tests
// about who announces, which need no pods. The Service must have no selector; see
// NoPods.
func (h *Test) Endpoint(service string, nodes ...string) {
	h.Helper()
	for i, node := range nodes {
		h.Apply(fmt.Sprintf(`
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[1]s-%[2]d, labels: {kubernetes.io/service-name: %[1]s}}
addressType: IPv4
endpoints: [{addresses: [10.244.250.%[3]d], nodeName: %[4]s, conditions: {ready: true, serving: true}}]
ports: [{name: p0, port: 8080, protocol: TCP}]
`, service, i, i+1, node))
	}
}

// NoPods takes the selector away: the Service's endpoints are those that the test
// makes with Endpoint.
func NoPods(s *corev1.Service) { s.Spec.Selector = nil }

// PodNodes returns the node of each pod of an echo deployment.
func (h *Test) PodNodes(app string) map[string]string {
	h.Helper()
	pods, err := h.Kube.CoreV1().Pods(h.Namespace).List(h.Ctx, metav1.ListOptions{LabelSelector: "app=" + app})
	h.Must(err)
	nodes := map[string]string{}
	for _, p := range pods.Items {
		if p.DeletionTimestamp == nil {
			nodes[p.Name] = p.Spec.NodeName
		}
	}
	return nodes
}

// Nodes are the names of the cluster's nodes.
func (h *Test) Nodes() []string {
	var names []string
	for _, n := range h.State.Layout.Nodes {
		names = append(names, n.Name)
	}
	return names
}

// OtherNodes are the cluster's nodes without some.
func (h *Test) OtherNodes(without ...string) []string {
	return slices.DeleteFunc(h.Nodes(), func(n string) bool { return slices.Contains(without, n) })
}

// podIn finds the name of the pod in an echo server's answer.
func podIn(answer string) string {
	for word := range strings.FieldsSeq(answer) {
		if pod, ok := strings.CutPrefix(word, "pod="); ok {
			return pod
		}
	}
	return ""
}

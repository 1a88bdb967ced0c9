//go:build lab

package harness

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/e2etest/herald"
)

// dumpIfFailed writes what there is to see, if the test failed and nothing was
// written when it did.
func (h *Test) dumpIfFailed() {
	if h.Failed() {
		h.dumpNow()
	}
}

// dumpNow writes what there is to see into a folder of the test's name, once.
func (h *Test) dumpNow() {
	dir := filepath.Join(h.dumps, h.Namespace)
	if os.Mkdir(dir, 0o755) != nil {
		return // it was written before, or cannot be
	}
	h.Logf("what there was to see is in %s", dir)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	write := func(file, text string, err error) {
		if err != nil {
			text += fmt.Sprintf("\nnot complete: %v\n", err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			h.Logf("dump: %v", err)
		}
	}
	for file, args := range map[string][]string{
		"services.yaml": {"get", "services,endpointslices,pods", "-A", "-o", "yaml"},
		"nodes.yaml":    {"get", "nodes", "-o", "yaml"},
		"events.txt":    {"get", "events.events.k8s.io", "-A", "--sort-by=.metadata.creationTimestamp"},
		"pods.txt":      {"get", "pods", "-A", "-o", "wide"},
		"herald.yaml": {"-n", herald.Namespace, "get",
			"ipaddresspools,l2advertisements,bgpadvertisements,bgppeers,bfdprofiles,communities,servicel2statuses,servicebgpstatuses,bgpsessionstatuses,configurationstates", "-o", "yaml"},
	} {
		text, err := h.Kubectl(ctx, args...)
		write(file, text, err)
	}
	for _, r := range h.Cluster.Routers() {
		text, err := show(ctx, r)
		write(r.Name+".txt", text, err)
	}
	for _, component := range []string{"controller", "speaker"} {
		pods, err := h.heraldPods(ctx, component)
		if err != nil {
			h.Logf("dump: list the pods of the %s: %v", component, err)
		}
		for _, p := range pods {
			text, err := h.Kube.CoreV1().Pods(herald.Namespace).GetLogs(p.Name, &corev1.PodLogOptions{}).DoRaw(ctx)
			write(fmt.Sprintf("%s-%s.log", p.Name, p.Spec.NodeName), string(text), err)
		}
	}
}

//go:build lab

package layer2

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
	"github.com/heraldlb/herald/e2etest/herald"
)

// A speaker whose gossip secret is missing, or is another than everybody else's,
// announces nothing and says why; the others keep working, and no address has
// two owners. With the right secret it takes its place, without a restart.
func TestSpeakerWithoutTheRightGossipKey(t *testing.T) {
	s, owner := served(t)
	const secret = "e2e-odd-key"
	odd := oddSpeaker(s, owner, secret)
	next := s.announcedByOneOf(s.OtherNodes(owner)...)

	s.Step("the secret is missing")
	odd.says("without its secret the gossip ring is not joined and nothing is announced")
	odd.waits(next)

	s.Step("the secret is another than everybody else's")
	odd.setKey([]byte("this is not the key of the others"))
	odd.says("answers under another gossip key")
	s.Eventually(harness.Patience, func() error {
		m, err := s.Metrics(odd.pod)
		if err != nil {
			return err
		}
		if v, err := m.Value("heraldlb_membership_calls_total", "result", "foreign_key"); err != nil || v < 1 {
			return fmt.Errorf("heraldlb_membership_calls_total with result foreign_key is %v, want at least 1: %w", v, err)
		}
		return nil
	})
	odd.waits(next)

	s.Step("the secret is the right one")
	right, err := s.Kube.CoreV1().Secrets(herald.Namespace).Get(s.Ctx, "memberlist", metav1.GetOptions{})
	s.Must(err)
	odd.setKey(right.Data["secretkey"])
	s.announcedBy(owner)
	s.steady(owner)
	s.Step("only what is to be cleaned up is left")
}

// odd is a speaker that takes its gossip key from a secret of its own.
type odd struct {
	*stage
	pod, secret string
}

// oddSpeaker replaces the speaker of a node by one that differs in the name of
// its gossip secret only. The DaemonSet adopts it: it carries all its labels.
func oddSpeaker(s *stage, node, secret string) *odd {
	s.Helper()
	pods := s.Kube.CoreV1().Pods(herald.Namespace)
	name, err := s.Speaker(node)
	s.Must(err)
	regular, err := pods.Get(s.Ctx, name, metav1.GetOptions{})
	s.Must(err)
	ds, err := s.Kube.AppsV1().DaemonSets(herald.Namespace).Get(s.Ctx, "speaker", metav1.GetOptions{})
	s.Must(err)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "speaker-odd", Labels: regular.Labels},
		Spec:       *ds.Spec.Template.Spec.DeepCopy(),
	}
	pod.Spec.NodeName = node
	i := slices.IndexFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == "memberlist" })
	if i < 0 {
		s.Fatal("the speaker's pod has no volume memberlist")
	}
	pod.Spec.Volumes[i].Secret.SecretName = secret

	s.Taint(node, "e2e-no-speaker") // or the DaemonSet would fill the place at once
	s.DeleteSpeaker(node, -1)
	s.Eventually(harness.Patience, func() error {
		if _, err := pods.Get(s.Ctx, name, metav1.GetOptions{}); err == nil {
			return fmt.Errorf("pod %s is still there", name)
		}
		return nil
	})
	_, err = pods.Create(s.Ctx, pod, metav1.CreateOptions{})
	s.Must(err)
	s.OnEnd("delete the odd speaker", func(ctx context.Context) error {
		return pods.Delete(ctx, pod.Name, metav1.DeleteOptions{})
	})
	return &odd{s, pod.Name, secret}
}

// setKey creates or changes the odd speaker's secret.
func (o *odd) setKey(key []byte) {
	o.Helper()
	secrets := o.Kube.CoreV1().Secrets(herald.Namespace)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: o.secret}, Data: map[string][]byte{"secretkey": key}}
	if _, err := secrets.Update(o.Ctx, secret, metav1.UpdateOptions{}); err == nil {
		return
	}
	_, err := secrets.Create(o.Ctx, secret, metav1.CreateOptions{})
	o.Must(err)
	o.OnEnd("delete the odd secret", func(ctx context.Context) error {
		return secrets.Delete(ctx, o.secret, metav1.DeleteOptions{})
	})
}

// says waits until the odd speaker's log holds a sentence.
func (o *odd) says(sentence string) {
	o.Helper()
	o.Eventually(2*harness.Patience, func() error {
		log, err := o.Kube.CoreV1().Pods(herald.Namespace).GetLogs(o.pod, &corev1.PodLogOptions{}).DoRaw(o.Ctx)
		if err == nil && !strings.Contains(string(log), sentence) {
			err = fmt.Errorf("the log of %s does not say %q", o.pod, sentence)
		}
		return err
	})
}

// waits checks that the odd speaker is not ready, and that meanwhile another
// node announces, alone.
func (o *odd) waits(announcer string) {
	o.Helper()
	o.Always(3*time.Second, func() error {
		pod, err := o.Kube.CoreV1().Pods(herald.Namespace).Get(o.Ctx, o.pod, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				return fmt.Errorf("pod %s is ready", o.pod)
			}
		}
		for _, a := range o.addrs {
			if got, err := o.Answerer(a, "eth0"); err != nil || got != announcer {
				return fmt.Errorf("%s is answered for by %q, want %q: %w", a, got, announcer, err)
			}
		}
		return nil
	})
	o.WaitOwnerIs("web", announcer)
}

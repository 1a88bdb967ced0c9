package report

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/config"
)

// The condition of a ConfigurationState and its reasons, MetalLB's.
const (
	conditionConfig   = "configReconcilerValid"
	reasonReconciled  = "Reconciled"
	reasonConfigError = "ConfigurationError"
)

// maxProblems bounds how many problems one message holds.
const maxProblems = 50

// newState is the object before its status is written.
func (me identity) newState() *v1beta1.ConfigurationState {
	return &v1beta1.ConfigurationState{ObjectMeta: metav1.ObjectMeta{
		Namespace: me.namespace,
		Name:      stateName(me.node),
		Labels: map[string]string{
			labelComponentType: "speaker",
			labelNodeName:      labelValue(me.node),
		},
		OwnerReferences: []metav1.OwnerReference{me.owner},
	}}
}

// decideState returns the status that problems call for, or nil if have says
// it already. Warnings are told and leave the configuration valid.
func decideState(have *v1beta1.ConfigurationState, problems []config.Problem, now metav1.Time) *v1beta1.ConfigurationStateStatus {
	var errs, warnings []config.Problem
	for _, p := range problems {
		if p.Severity == config.Error {
			errs = append(errs, p)
		} else {
			warnings = append(warnings, p)
		}
	}
	c := metav1.Condition{Type: conditionConfig, Status: metav1.ConditionTrue, Reason: reasonReconciled, Message: lines(warnings), LastTransitionTime: now}
	want := &v1beta1.ConfigurationStateStatus{Result: v1beta1.ConfigurationValid}
	if len(errs) > 0 {
		c.Status, c.Reason = metav1.ConditionFalse, reasonConfigError
		c.Message = "configuration error: " + lines(errs)
		want.Result, want.ErrorSummary = v1beta1.ConfigurationInvalid, c.Message
	}
	if have != nil {
		for _, old := range have.Status.Conditions {
			if old.Type != conditionConfig {
				continue
			}
			if old.Status == c.Status {
				c.LastTransitionTime = old.LastTransitionTime
			}
			if sameVerdict(old, c) && have.Status.Result == want.Result && have.Status.ErrorSummary == want.ErrorSummary {
				return nil
			}
		}
	}
	want.Conditions = []metav1.Condition{c}
	return want
}

// lines puts one problem on a line.
func lines(problems []config.Problem) string {
	var b strings.Builder
	for i, p := range problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		if i == maxProblems {
			fmt.Fprintf(&b, "and %d more", len(problems)-i)
			break
		}
		b.WriteString(sentence(p))
	}
	return b.String()
}

// sentence names the object and the field before what is wrong.
func sentence(p config.Problem) string {
	if p.Field == "" {
		return fmt.Sprintf("%s %s: %s", p.Kind, p.Name, p.Message)
	}
	return fmt.Sprintf("%s %s, %s: %s", p.Kind, p.Name, p.Field, p.Message)
}

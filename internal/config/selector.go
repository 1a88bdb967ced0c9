package config

import (
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/heraldlb/herald/api/v1beta1"
)

// selectors compiles a list of selectors. One that cannot be understood is
// reported and replaced by one that matches nothing: leaving it out could turn
// "these" into "all". ok is false if there was such a one.
func (r report) selectors(field string, list []v1beta1.LabelSelector) (out []labels.Selector, ok bool) {
	ok = true
	seen := make(map[string]struct{}, len(list))
	for i := range list {
		at := fmt.Sprintf("%s[%d]", field, i)
		sel, sound := r.selector(at, &list[i])
		if !sound {
			out, ok = append(out, labels.Nothing()), false
			continue
		}
		text := sel.String()
		if _, dup := seen[text]; dup {
			r.warnf(at, "duplicate label selector %q: expected each selector once", text)
			continue
		}
		seen[text] = struct{}{}
		out = append(out, sel)
	}
	return out, ok
}

// selector compiles one selector; ok is false if any part of it is wrong.
func (r report) selector(field string, in *v1beta1.LabelSelector) (sel labels.Selector, ok bool) {
	ok = true
	var reqs []labels.Requirement
	for _, key := range slices.Sorted(maps.Keys(in.MatchLabels)) {
		value := []string{in.MatchLabels[key]}
		if !r.labelSyntax(field+".matchLabels", key, value) {
			ok = false
			continue
		}
		req, err := labels.NewRequirement(key, selection.Equals, value)
		if err != nil {
			r.errorf(field+".matchLabels", "invalid label selector: %v", err)
			ok = false
			continue
		}
		reqs = append(reqs, *req)
	}
	seen := make(map[string]struct{}, len(in.MatchExpressions))
	for i := range in.MatchExpressions {
		at := fmt.Sprintf("%s.matchExpressions[%d]", field, i)
		req, sound := r.requirement(at, &in.MatchExpressions[i])
		if !sound {
			ok = false
			continue
		}
		text := req.String()
		if _, dup := seen[text]; dup {
			r.warnf(at, "duplicate match expression %q: expected each expression once", text)
			continue
		}
		seen[text] = struct{}{}
		reqs = append(reqs, *req)
	}
	return labels.NewSelector().Add(reqs...), ok
}

func (r report) requirement(field string, in *v1beta1.LabelSelectorRequirement) (req *labels.Requirement, ok bool) {
	operators := map[string]selection.Operator{
		"In": selection.In, "NotIn": selection.NotIn,
		"Exists": selection.Exists, "DoesNotExist": selection.DoesNotExist,
	}
	op, known := operators[in.Operator]
	if !known {
		r.errorf(field+".operator", "invalid label selector: unknown operator %q: expected In, NotIn, Exists or DoesNotExist", in.Operator)
		return nil, false
	}
	takesValues := op == selection.In || op == selection.NotIn
	switch {
	case takesValues && len(in.Values) == 0:
		r.errorf(field+".values", "invalid label selector: operator %s without values: expected at least one", in.Operator)
		return nil, false
	case !takesValues && len(in.Values) > 0:
		r.errorf(field+".values", "invalid label selector: operator %s with values: expected none", in.Operator)
		return nil, false
	}
	values := slices.Sorted(slices.Values(in.Values))
	if unique := slices.Compact(slices.Clone(values)); len(unique) < len(values) {
		r.warnf(field+".values", "duplicate value in %q: expected each value once", values)
		values = unique
	}
	if !r.labelSyntax(field, in.Key, values) {
		return nil, false
	}
	req, err := labels.NewRequirement(in.Key, op, values)
	if err != nil {
		r.errorf(field, "invalid label selector: %v", err)
		return nil, false
	}
	return req, true
}

// labelSyntax checks a label's key and values, and says what they should look
// like in fewer words than the library does.
func (r report) labelSyntax(field, key string, values []string) bool {
	if len(validation.IsQualifiedName(key)) > 0 {
		r.errorf(field, "invalid label selector: %q is not a label key: expected up to 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends, optionally after a domain name and '/'", key)
		return false
	}
	for _, v := range values {
		if len(validation.IsValidLabelValue(v)) > 0 {
			r.errorf(field, "invalid label selector: %q is not a label value: expected up to 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends", v)
			return false
		}
	}
	return true
}

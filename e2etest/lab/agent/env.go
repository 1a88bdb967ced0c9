package agent

import (
	"fmt"
	"net"
	"sort"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// objects finds the Secrets and ConfigMaps of a pod's namespace. A missing one
// is (nil, nil).
type objects interface {
	Secret(name string) (*corev1.Secret, error)
	ConfigMap(name string) (*corev1.ConfigMap, error)
}

// variables is an environment: names in the order of their first mention.
type variables struct {
	names  []string
	values map[string]string
}

func (v *variables) set(name, value string) {
	if v.values == nil {
		v.values = map[string]string{}
	}
	if _, ok := v.values[name]; !ok {
		v.names = append(v.names, name)
	}
	v.values[name] = value
}

func (v *variables) lookup(name string) (string, bool) {
	s, ok := v.values[name]
	return s, ok
}

// list gives the NAME=value form.
func (v *variables) list() []string {
	out := make([]string, 0, len(v.names))
	for _, n := range v.names {
		out = append(out, n+"="+v.values[n])
	}
	return out
}

// containerEnv builds a container's environment: the image's, then the
// Services', then envFrom, then env, later ones replacing earlier ones.
func containerEnv(facts podFacts, c *corev1.Container, image []string, services []*corev1.Service, objs objects) (*variables, error) {
	env := &variables{}
	for _, kv := range image {
		name, value, _ := strings.Cut(kv, "=")
		env.set(name, value)
	}
	if _, ok := env.lookup("HOSTNAME"); !ok {
		env.set("HOSTNAME", facts.hostname())
	}
	for _, s := range services {
		serviceEnv(env, s)
	}
	for _, from := range c.EnvFrom {
		if err := envFrom(env, from, objs); err != nil {
			return nil, err
		}
	}
	for _, e := range c.Env {
		value, ok, err := envValue(facts, c, e, env, objs)
		if err != nil {
			return nil, fmt.Errorf("environment variable %s: %w", e.Name, err)
		}
		if ok {
			env.set(e.Name, value)
		}
	}
	return env, nil
}

func envFrom(env *variables, from corev1.EnvFromSource, objs objects) error {
	values := map[string]string{}
	switch {
	case from.ConfigMapRef != nil:
		cm, err := objs.ConfigMap(from.ConfigMapRef.Name)
		if err != nil {
			return err
		}
		if cm == nil {
			return missing("ConfigMap", from.ConfigMapRef.Name, from.ConfigMapRef.Optional)
		}
		values = cm.Data
	case from.SecretRef != nil:
		s, err := objs.Secret(from.SecretRef.Name)
		if err != nil {
			return err
		}
		if s == nil {
			return missing("Secret", from.SecretRef.Name, from.SecretRef.Optional)
		}
		for k, v := range s.Data {
			values[k] = string(v)
		}
	}
	names := make([]string, 0, len(values))
	for k := range values {
		names = append(names, k)
	}
	sort.Strings(names)
	for _, k := range names {
		env.set(from.Prefix+k, values[k])
	}
	return nil
}

// envValue resolves one variable; ok is false when an optional source is absent.
func envValue(facts podFacts, c *corev1.Container, e corev1.EnvVar, env *variables, objs objects) (value string, ok bool, err error) {
	from := e.ValueFrom
	switch {
	case from == nil:
		return expand(e.Value, env.lookup), true, nil
	case from.FieldRef != nil:
		value, err = facts.field(from.FieldRef.FieldPath)
		return value, err == nil, err
	case from.ResourceFieldRef != nil:
		value, err = facts.resource(from.ResourceFieldRef, c)
		return value, err == nil, err
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		cm, err := objs.ConfigMap(ref.Name)
		if err != nil {
			return "", false, err
		}
		if cm == nil {
			return "", false, missing("ConfigMap", ref.Name, ref.Optional)
		}
		v, has := cm.Data[ref.Key]
		if !has {
			return "", false, missing("key "+ref.Key+" of ConfigMap", ref.Name, ref.Optional)
		}
		return v, true, nil
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		s, err := objs.Secret(ref.Name)
		if err != nil {
			return "", false, err
		}
		if s == nil {
			return "", false, missing("Secret", ref.Name, ref.Optional)
		}
		v, has := s.Data[ref.Key]
		if !has {
			return "", false, missing("key "+ref.Key+" of Secret", ref.Name, ref.Optional)
		}
		return string(v), true, nil
	}
	return "", false, fmt.Errorf("this source of a value is not supported by the lab's node agent")
}

// missing is nil for an optional reference.
func missing(what, name string, optional *bool) error {
	if optional != nil && *optional {
		return nil
	}
	return fmt.Errorf("%s %q not found", what, name)
}

// serviceEnv adds the variables by which a Service is known to containers that
// start after it: the {NAME}_SERVICE_* ones and the older Docker links.
func serviceEnv(env *variables, s *corev1.Service) {
	if s.Spec.ClusterIP == "" || s.Spec.ClusterIP == corev1.ClusterIPNone || len(s.Spec.Ports) == 0 {
		return
	}
	prefix := strings.ToUpper(strings.ReplaceAll(s.Name, "-", "_"))
	ip := s.Spec.ClusterIP
	env.set(prefix+"_SERVICE_HOST", ip)
	env.set(prefix+"_SERVICE_PORT", strconv.Itoa(int(s.Spec.Ports[0].Port)))
	for i, p := range s.Spec.Ports {
		port, proto := strconv.Itoa(int(p.Port)), strings.ToLower(string(p.Protocol))
		if p.Name != "" {
			env.set(prefix+"_SERVICE_PORT_"+strings.ToUpper(strings.ReplaceAll(p.Name, "-", "_")), port)
		}
		url := proto + "://" + net.JoinHostPort(ip, port)
		if i == 0 {
			env.set(prefix+"_PORT", url)
		}
		link := prefix + "_PORT_" + port + "_" + strings.ToUpper(proto)
		env.set(link, url)
		env.set(link+"_PROTO", proto)
		env.set(link+"_PORT", port)
		env.set(link+"_ADDR", ip)
	}
}

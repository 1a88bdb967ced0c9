package agent

import (
	"fmt"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// payload is the content of a volume that comes from the API: path to file.
type payload map[string]payloadFile

type payloadFile struct {
	data []byte
	mode int32
}

// defaultMode is what the API server fills in; it is repeated for objects that
// did not pass it.
const defaultMode int32 = 0o644

// secretPayload is the content of a Secret volume. s is nil when it is absent.
func secretPayload(s *corev1.Secret, name string, items []corev1.KeyToPath, mode *int32, optional *bool) (payload, error) {
	if s == nil {
		return payload{}, missing("Secret", name, optional)
	}
	return pick(s.Data, items, mode, optional, fmt.Sprintf("Secret %q", name))
}

// configMapPayload is the content of a ConfigMap volume. cm is nil when it is absent.
func configMapPayload(cm *corev1.ConfigMap, name string, items []corev1.KeyToPath, mode *int32, optional *bool) (payload, error) {
	if cm == nil {
		return payload{}, missing("ConfigMap", name, optional)
	}
	data := make(map[string][]byte, len(cm.Data)+len(cm.BinaryData))
	for k, v := range cm.Data {
		data[k] = []byte(v)
	}
	for k, v := range cm.BinaryData {
		data[k] = v
	}
	return pick(data, items, mode, optional, fmt.Sprintf("ConfigMap %q", name))
}

// pick takes all keys, or the items, which it then requires unless optional.
func pick(data map[string][]byte, items []corev1.KeyToPath, mode *int32, optional *bool, what string) (payload, error) {
	out := payload{}
	if len(items) == 0 {
		for k, v := range data {
			out[k] = payloadFile{v, modeOr(mode, nil)}
		}
		return out, nil
	}
	for _, item := range items {
		v, ok := data[item.Key]
		if !ok {
			if optional != nil && *optional {
				continue
			}
			return nil, fmt.Errorf("%s has no key %q", what, item.Key)
		}
		if err := checkPath(item.Path); err != nil {
			return nil, fmt.Errorf("%s, key %q: %w", what, item.Key, err)
		}
		out[path.Clean(item.Path)] = payloadFile{v, modeOr(mode, item.Mode)}
	}
	return out, nil
}

// downwardPayload is the content of a downward API volume.
func downwardPayload(items []corev1.DownwardAPIVolumeFile, mode *int32, facts podFacts) (payload, error) {
	out := payload{}
	for _, item := range items {
		if err := checkPath(item.Path); err != nil {
			return nil, err
		}
		var value string
		var err error
		switch {
		case item.FieldRef != nil:
			value, err = facts.field(item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			value, err = facts.resource(item.ResourceFieldRef, nil)
		}
		if err != nil {
			return nil, fmt.Errorf("downward API file %s: %w", item.Path, err)
		}
		out[path.Clean(item.Path)] = payloadFile{[]byte(value), modeOr(mode, item.Mode)}
	}
	return out, nil
}

func modeOr(volume, item *int32) int32 {
	if m := first(item, volume); m != nil {
		return *m
	}
	return defaultMode
}

func checkPath(p string) error {
	clean := path.Clean(p)
	if p == "" || path.IsAbs(p) || clean == ".." || strings.HasPrefix(clean, "../") || strings.HasPrefix(clean, "..data") {
		return fmt.Errorf("path %q: expected a relative path inside the volume", p)
	}
	return nil
}

package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// volumes keeps the volumes of one pod, under one directory of the node's state.
type volumes struct {
	dir    string
	client kubernetes.Interface
	objs   objects
	facts  func() podFacts

	mu     sync.Mutex // guards tokens, and makes updates take turns
	tokens map[string]issuedToken
}

type issuedToken struct {
	value   string
	refresh time.Time
}

func newVolumes(dir string, client kubernetes.Interface, objs objects, facts func() podFacts) *volumes {
	return &volumes{dir: dir, client: client, objs: objs, facts: facts, tokens: map[string]issuedToken{}}
}

// path is where a volume is on the host.
func (v *volumes) path(vol *corev1.Volume) string {
	if vol.HostPath != nil {
		return vol.HostPath.Path
	}
	return filepath.Join(v.dir, vol.Name)
}

// update makes every volume hold what it should now. It is called before the
// containers start and whenever a source may have changed; next is when a token
// must be renewed, zero if never.
func (v *volumes) update(ctx context.Context) (next time.Time, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	facts := v.facts()
	var errs []error
	for i := range facts.pod.Spec.Volumes {
		vol := &facts.pod.Spec.Volumes[i]
		if err := v.updateOne(ctx, vol, facts); err != nil {
			errs = append(errs, fmt.Errorf("volume %s: %w", vol.Name, err))
		}
	}
	for _, t := range v.tokens {
		if next.IsZero() || t.refresh.Before(next) {
			next = t.refresh
		}
	}
	return next, errors.Join(errs...)
}

func (v *volumes) updateOne(ctx context.Context, vol *corev1.Volume, facts podFacts) error {
	o := owner{user: -1, group: -1}
	if sc := facts.pod.Spec.SecurityContext; sc != nil && sc.FSGroup != nil {
		o.group = int(*sc.FSGroup)
	}
	var files payload
	var err error
	switch {
	case vol.EmptyDir != nil:
		return makeEmptyDir(v.path(vol), o.group)
	case vol.HostPath != nil:
		return checkHostPath(vol.HostPath)
	case vol.Secret != nil:
		s := vol.Secret
		var obj *corev1.Secret
		if obj, err = v.objs.Secret(s.SecretName); err == nil {
			files, err = secretPayload(obj, s.SecretName, s.Items, s.DefaultMode, s.Optional)
		}
	case vol.ConfigMap != nil:
		s := vol.ConfigMap
		var obj *corev1.ConfigMap
		if obj, err = v.objs.ConfigMap(s.Name); err == nil {
			files, err = configMapPayload(obj, s.Name, s.Items, s.DefaultMode, s.Optional)
		}
	case vol.DownwardAPI != nil:
		files, err = downwardPayload(vol.DownwardAPI.Items, vol.DownwardAPI.DefaultMode, facts)
	case vol.Projected != nil:
		files, err = v.projected(ctx, vol, facts, &o)
	default:
		return errors.New("this kind of volume is not supported by the lab's node agent: expected emptyDir, hostPath, secret, configMap, downwardAPI or projected")
	}
	if err != nil {
		return err
	}
	_, err = writeVolume(v.path(vol), files, o)
	return err
}

// projected merges several sources; later ones win where paths collide.
func (v *volumes) projected(ctx context.Context, vol *corev1.Volume, facts podFacts, o *owner) (payload, error) {
	out := payload{}
	mode := vol.Projected.DefaultMode
	for i, src := range vol.Projected.Sources {
		var files payload
		var err error
		switch {
		case src.ServiceAccountToken != nil:
			files, err = v.token(ctx, fmt.Sprintf("%s/%d", vol.Name, i), src.ServiceAccountToken, facts.pod)
			o.user = commonUser(facts.pod)
			if o.user >= 0 || o.group >= 0 {
				o.token = true
			}
		case src.ConfigMap != nil:
			var obj *corev1.ConfigMap
			if obj, err = v.objs.ConfigMap(src.ConfigMap.Name); err == nil {
				files, err = configMapPayload(obj, src.ConfigMap.Name, src.ConfigMap.Items, mode, src.ConfigMap.Optional)
			}
		case src.Secret != nil:
			var obj *corev1.Secret
			if obj, err = v.objs.Secret(src.Secret.Name); err == nil {
				files, err = secretPayload(obj, src.Secret.Name, src.Secret.Items, mode, src.Secret.Optional)
			}
		case src.DownwardAPI != nil:
			files, err = downwardPayload(src.DownwardAPI.Items, mode, facts)
		default:
			err = errors.New("a projected source is not supported by the lab's node agent: expected serviceAccountToken, configMap, secret or downwardAPI")
		}
		if err != nil {
			return nil, err
		}
		maps.Copy(out, files)
	}
	return out, nil
}

// token is a token of the pod's service account, bound to the pod. As with a
// kubelet it is renewed after 80 % of its life, and at least once a day.
func (v *volumes) token(ctx context.Context, key string, src *corev1.ServiceAccountTokenProjection, pod *corev1.Pod) (payload, error) {
	t, ok := v.tokens[key]
	if !ok || !time.Now().Before(t.refresh) {
		req := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
			ExpirationSeconds: src.ExpirationSeconds,
			BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
		}}
		if src.Audience != "" {
			req.Spec.Audiences = []string{src.Audience}
		}
		asked := time.Now()
		got, err := v.client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, pod.Spec.ServiceAccountName, req, metav1.CreateOptions{})
		switch {
		case err == nil:
			life := got.Status.ExpirationTimestamp.Sub(asked)
			t = issuedToken{got.Status.Token, asked.Add(min(life*8/10, 24*time.Hour))}
		case ok:
			// The old one still works for a while: keep it and try again soon.
			t.refresh = asked.Add(time.Second)
		default:
			return nil, fmt.Errorf("request a token for service account %s: %w", pod.Spec.ServiceAccountName, err)
		}
		v.tokens[key] = t
	}
	return payload{src.Path: {data: []byte(t.value), mode: defaultMode}}, nil
}

// commonUser is the user that all containers run as, -1 if they differ or do
// not say. A token then belongs to that user.
func commonUser(pod *corev1.Pod) int {
	common := int64(-1)
	for i, c := range pod.Spec.Containers {
		var own, pods *int64
		if c.SecurityContext != nil {
			own = c.SecurityContext.RunAsUser
		}
		if pod.Spec.SecurityContext != nil {
			pods = pod.Spec.SecurityContext.RunAsUser
		}
		u := first(own, pods)
		if u == nil || (i > 0 && *u != common) {
			return -1
		}
		common = *u
	}
	return int(common)
}

// makeEmptyDir makes the directory once: what is in it belongs to the pod.
func makeEmptyDir(dir string, group int) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	mode := os.FileMode(0o777)
	if group >= 0 {
		if err := os.Chown(dir, -1, group); err != nil {
			return err
		}
		mode |= os.ModeSetgid // new files belong to the group too
	}
	return os.Chmod(dir, mode)
}

func checkHostPath(h *corev1.HostPathVolumeSource) error {
	kind := corev1.HostPathUnset
	if h.Type != nil {
		kind = *h.Type
	}
	st, err := os.Stat(h.Path)
	switch kind {
	case corev1.HostPathDirectoryOrCreate:
		return os.MkdirAll(h.Path, 0o755)
	case corev1.HostPathFileOrCreate:
		f, err := os.OpenFile(h.Path, os.O_CREATE|os.O_RDONLY, 0o644)
		if err != nil {
			return err
		}
		return f.Close()
	case corev1.HostPathUnset:
		if errors.Is(err, os.ErrNotExist) {
			return os.MkdirAll(h.Path, 0o755)
		}
	case corev1.HostPathDirectory:
		if err == nil && !st.IsDir() {
			return fmt.Errorf("hostPath %s: expected a directory", h.Path)
		}
	case corev1.HostPathFile:
		if err == nil && !st.Mode().IsRegular() {
			return fmt.Errorf("hostPath %s: expected a file", h.Path)
		}
	}
	if err != nil {
		return fmt.Errorf("hostPath: %w", err)
	}
	return nil
}

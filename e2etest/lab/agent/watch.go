package agent

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// watcher follows single Secrets and ConfigMaps: those that pods of this node
// use, as a kubelet does. So the agent needs no more rights than a node has, and
// a cluster full of other objects costs it nothing.
type watcher struct {
	client kubernetes.Interface
	ctx    context.Context // bounds every watch

	mu      sync.Mutex // guards watched and what is in it
	watched map[objectKey]*watched
}

type objectKey struct{ kind, namespace, name string }

const (
	kindSecret    = "secrets"
	kindConfigMap = "configmaps"
)

type watched struct {
	stop  context.CancelFunc
	store cache.Store
	ctl   cache.Controller
	users map[*objectUser]bool
}

// objectUser is one pod's view of the objects it uses. It implements objects.
type objectUser struct {
	w         *watcher
	namespace string
	changed   func() // called, and must not block, when a used object changed
	keys      map[objectKey]bool
}

func newWatcher(ctx context.Context, client kubernetes.Interface) *watcher {
	return &watcher{client: client, ctx: ctx, watched: map[objectKey]*watched{}}
}

// user starts a view for a pod; release ends it.
func (w *watcher) user(namespace string, changed func()) *objectUser {
	return &objectUser{w: w, namespace: namespace, changed: changed, keys: map[objectKey]bool{}}
}

func (u *objectUser) release() {
	u.w.mu.Lock()
	defer u.w.mu.Unlock()
	for key := range u.keys {
		if o := u.w.watched[key]; o != nil {
			delete(o.users, u)
			if len(o.users) == 0 {
				o.stop()
				delete(u.w.watched, key)
			}
		}
	}
	u.keys = nil
}

func (u *objectUser) Secret(name string) (*corev1.Secret, error) {
	obj, err := u.get(objectKey{kindSecret, u.namespace, name})
	s, _ := obj.(*corev1.Secret)
	return s, err
}

func (u *objectUser) ConfigMap(name string) (*corev1.ConfigMap, error) {
	obj, err := u.get(objectKey{kindConfigMap, u.namespace, name})
	cm, _ := obj.(*corev1.ConfigMap)
	return cm, err
}

// get returns the object, or nil. While the watch is being set up it asks the
// API server itself, for a pod should not wait for a cache.
func (u *objectUser) get(key objectKey) (any, error) {
	store, synced := u.w.follow(key, u)
	if synced {
		obj, ok, err := store.GetByKey(key.namespace + "/" + key.name)
		if err != nil || !ok {
			return nil, err
		}
		return obj, nil
	}
	var obj any
	var err error
	if key.kind == kindSecret {
		obj, err = u.w.client.CoreV1().Secrets(key.namespace).Get(u.w.ctx, key.name, metav1.GetOptions{})
	} else {
		obj, err = u.w.client.CoreV1().ConfigMaps(key.namespace).Get(u.w.ctx, key.name, metav1.GetOptions{})
	}
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get %s %s/%s: %w", key.kind, key.namespace, key.name, err)
	}
	return obj, nil
}

// follow makes u a user of the object and starts its watch if it is the first.
func (w *watcher) follow(key objectKey, u *objectUser) (store cache.Store, synced bool) {
	o := w.use(key, u)
	if o == nil {
		return nil, false
	}
	// Not under our lock: the informer calls notify, which takes it, while it
	// holds the one that HasSynced wants.
	return o.store, o.ctl.HasSynced()
}

// use is nil for a user that has been released.
func (w *watcher) use(key objectKey, u *objectUser) *watched {
	w.mu.Lock()
	defer w.mu.Unlock()
	if u.keys == nil {
		return nil
	}
	o := w.watched[key]
	if o == nil {
		o = w.start(key)
		w.watched[key] = o
	}
	o.users[u], u.keys[key] = true, true
	return o
}

func (w *watcher) start(key objectKey) *watched {
	ctx, cancel := context.WithCancel(w.ctx)
	o := &watched{stop: cancel, users: map[*objectUser]bool{}}
	var object runtime.Object = &corev1.ConfigMap{}
	if key.kind == kindSecret {
		object = &corev1.Secret{}
	}
	notify := func() { w.notify(o) }
	o.store, o.ctl = cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.NewListWatchFromClient(w.client.CoreV1().RESTClient(), key.kind, key.namespace,
			fields.OneTermEqualSelector("metadata.name", key.name)),
		ObjectType: object,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { notify() },
			UpdateFunc: func(any, any) { notify() },
			DeleteFunc: func(any) { notify() },
		},
	})
	go o.ctl.RunWithContext(ctx)
	return o
}

func (w *watcher) notify(o *watched) {
	w.mu.Lock()
	users := make([]*objectUser, 0, len(o.users))
	for u := range o.users {
		users = append(users, u)
	}
	w.mu.Unlock()
	for _, u := range users {
		u.changed()
	}
}

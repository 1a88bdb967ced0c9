//go:build lab

package bench

import (
	"context"
	"errors"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"
)

// listFunc is a typed List as a ListWatch wants it.
func listFunc[L runtime.Object](list func(context.Context, metav1.ListOptions) (L, error)) cache.ListWithContextFunc {
	return func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return list(ctx, o) }
}

// watch calls seen with every state of the objects until the benchmark ends, from
// one goroutine. It returns when what is there was seen.
func watch[T runtime.Object](w *world, lw *cache.ListWatch, kind T, seen func(T)) {
	watchAll(w, lw, kind, func(obj T, _ bool) { seen(obj) })
}

// watchAll is watch with the deletions, for which gone is true.
func watchAll[T runtime.Object](w *world, lw *cache.ListWatch, kind T, seen func(obj T, gone bool)) {
	w.Helper()
	informer := cache.NewSharedInformer(lw, kind, 0)
	registration, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { seen(obj.(T), false) },
		UpdateFunc: func(_, obj any) { seen(obj.(T), false) },
		DeleteFunc: func(obj any) {
			if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = last.Obj
			}
			seen(obj.(T), true)
		},
	})
	w.must(err)
	go informer.RunWithContext(w.ctx)
	if !cache.WaitForCacheSync(w.ctx.Done(), registration.HasSynced) {
		w.must(errors.New("watch: the benchmark's time is over"))
	}
}

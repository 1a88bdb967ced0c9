package manager

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authenticationclient "k8s.io/client-go/kubernetes/typed/authentication/v1"
	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
	"k8s.io/client-go/rest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

const (
	// reviewTTL is how long the API server's answer about a token is believed.
	// A scrape every 15 s then asks four times a minute at the most, and a
	// revoked token works for no longer than this.
	reviewTTL = time.Minute
	// reviewCacheSize bounds what strangers with random tokens can make us keep.
	reviewCacheSize = 128
	reviewTimeout   = 10 * time.Second
)

// metricsAuth lets a request through when the API server knows its bearer token
// (TokenReview) and grants the token's user the path (SubjectAccessReview for
// the verb and the non-resource URL), as MetalLB does.
//
// controller-runtime has such a filter too. It links the API server's libraries
// into the binary, several times the rest of the speaker, for these two calls.
type metricsAuth struct {
	review func(ctx context.Context, token, verb, path string) (verdict, error)
	now    func() time.Time

	mu    sync.Mutex // guards cache
	cache map[reviewKey]cachedVerdict
}

// reviewKey holds the token's hash: the cache must not be a store of secrets.
type reviewKey struct {
	token      [sha256.Size]byte
	verb, path string
}

type cachedVerdict struct {
	verdict
	until time.Time
}

// verdict is an HTTP status and the sentence that goes with it.
type verdict struct {
	status  int
	message string
}

var allowed = verdict{http.StatusOK, ""}

func newMetricsFilter(cfg *rest.Config, client *http.Client) (metricsserver.Filter, error) {
	authn, err := authenticationclient.NewForConfigAndClient(cfg, client)
	if err != nil {
		return nil, fmt.Errorf("create the client for token reviews: %w", err)
	}
	authz, err := authorizationclient.NewForConfigAndClient(cfg, client)
	if err != nil {
		return nil, fmt.Errorf("create the client for access reviews: %w", err)
	}
	auth := &metricsAuth{
		review: reviewer(authn.TokenReviews(), authz.SubjectAccessReviews()),
		now:    time.Now,
		cache:  make(map[reviewKey]cachedVerdict),
	}
	return auth.filter, nil
}

func (a *metricsAuth) filter(log logr.Logger, next http.Handler) (http.Handler, error) {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		token, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
		if !ok || token == "" {
			http.Error(w, "a bearer token is needed", http.StatusUnauthorized)
			return
		}
		v, err := a.judge(req.Context(), token, strings.ToLower(req.Method), req.URL.Path)
		if err != nil {
			log.Error(err, "cannot judge a request for metrics")
			http.Error(w, "the API server cannot judge the token now", http.StatusServiceUnavailable)
			return
		}
		if v != allowed {
			http.Error(w, v.message, v.status)
			return
		}
		next.ServeHTTP(w, req)
	}), nil
}

func (a *metricsAuth) judge(ctx context.Context, token, verb, path string) (verdict, error) {
	key := reviewKey{sha256.Sum256([]byte(token)), verb, path}
	now := a.now()
	a.mu.Lock()
	hit, ok := a.cache[key]
	a.mu.Unlock()
	if ok && now.Before(hit.until) {
		return hit.verdict, nil
	}

	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	v, err := a.review(ctx, token, verb, path)
	if err != nil {
		return verdict{}, err
	}

	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.cache) >= reviewCacheSize {
		// Emptying it costs each honest scraper one more question.
		clear(a.cache)
	}
	a.cache[key] = cachedVerdict{v, now.Add(reviewTTL)}
	return v, nil
}

func reviewer(tokens authenticationclient.TokenReviewInterface, access authorizationclient.SubjectAccessReviewInterface,
) func(ctx context.Context, token, verb, path string) (verdict, error) {
	return func(ctx context.Context, token, verb, path string) (verdict, error) {
		tr, err := tokens.Create(ctx, &authenticationv1.TokenReview{
			Spec: authenticationv1.TokenReviewSpec{Token: token},
		}, metav1.CreateOptions{})
		if err != nil {
			return verdict{}, fmt.Errorf("review the token: %w", err)
		}
		if !tr.Status.Authenticated {
			return verdict{http.StatusUnauthorized, "the bearer token is not valid"}, nil
		}
		user := tr.Status.User
		extra := make(map[string]authorizationv1.ExtraValue, len(user.Extra))
		for k, v := range user.Extra {
			extra[k] = authorizationv1.ExtraValue(v)
		}
		sar, err := access.Create(ctx, &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{
				NonResourceAttributes: &authorizationv1.NonResourceAttributes{Verb: verb, Path: path},
				User:                  user.Username, UID: user.UID, Groups: user.Groups, Extra: extra,
			},
		}, metav1.CreateOptions{})
		if err != nil {
			return verdict{}, fmt.Errorf("review the access of %s: %w", user.Username, err)
		}
		if !sar.Status.Allowed || sar.Status.Denied {
			return verdict{http.StatusForbidden, fmt.Sprintf("user %q may not %s %s: grant its ClusterRole the nonResourceURL", user.Username, verb, path)}, nil
		}
		return allowed, nil
	}
}

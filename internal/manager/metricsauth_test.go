package manager

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	authenticationfake "k8s.io/client-go/kubernetes/typed/authentication/v1/fake"
	authorizationfake "k8s.io/client-go/kubernetes/typed/authorization/v1/fake"
	clienttesting "k8s.io/client-go/testing"
)

// apiServer answers reviews as a cluster with two users would: the token "prom"
// belongs to a user who may get /metrics, "web" to one who may not.
func apiServer(t *testing.T) (*clienttesting.Fake, *[]string) {
	t.Helper()
	var asked []string
	client := &clienttesting.Fake{}
	client.PrependReactor("create", "tokenreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		review := a.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview).DeepCopy()
		asked = append(asked, "token "+review.Spec.Token)
		if review.Spec.Token == "prom" || review.Spec.Token == "web" {
			review.Status = authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: "user-" + review.Spec.Token}}
		}
		return true, review, nil
	})
	client.PrependReactor("create", "subjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		review := a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview).DeepCopy()
		r := review.Spec.NonResourceAttributes
		asked = append(asked, fmt.Sprintf("may %s %s %s", review.Spec.User, r.Verb, r.Path))
		review.Status.Allowed = review.Spec.User == "user-prom" && r.Verb == "get" && r.Path == "/metrics"
		return true, review, nil
	})
	return client, &asked
}

func newAuth(client *clienttesting.Fake, now func() time.Time) *metricsAuth {
	return &metricsAuth{
		review: reviewer(
			(&authenticationfake.FakeAuthenticationV1{Fake: client}).TokenReviews(),
			(&authorizationfake.FakeAuthorizationV1{Fake: client}).SubjectAccessReviews(),
		),
		now:   now,
		cache: make(map[reviewKey]cachedVerdict),
	}
}

func get(t *testing.T, auth *metricsAuth, authorization string) int {
	t.Helper()
	handler, err := auth.filter(logr.Discard(), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	if err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, req)
	return w.Code
}

func TestMetricsNeedATokenThatMayReadThem(t *testing.T) {
	client, _ := apiServer(t)
	auth := newAuth(client, time.Now)
	for _, tt := range []struct {
		name, authorization string
		want                int
	}{
		{"no token", "", http.StatusUnauthorized},
		{"an empty token", "Bearer ", http.StatusUnauthorized},
		{"a password", "Basic cHJvbQ==", http.StatusUnauthorized},
		{"an unknown token", "Bearer guess", http.StatusUnauthorized},
		{"a user without the right", "Bearer web", http.StatusForbidden},
		{"a user with the right", "Bearer prom", http.StatusOK},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := get(t, auth, tt.authorization); got != tt.want {
				t.Errorf("status %d, want %d", got, tt.want)
			}
		})
	}
}

func TestMetricsVerdictIsAskedOnceAMinute(t *testing.T) {
	client, asked := apiServer(t)
	now := time.Unix(0, 0)
	auth := newAuth(client, func() time.Time { return now })
	for range 3 {
		get(t, auth, "Bearer prom")
	}
	now = now.Add(reviewTTL)
	get(t, auth, "Bearer prom")
	round := []string{"token prom", "may user-prom get /metrics"}
	if diff := cmp.Diff(append(round, round...), *asked); diff != "" {
		t.Errorf("questions to the API server (-want +got)\n%s", diff)
	}
}

func TestMetricsCacheIsBounded(t *testing.T) {
	client, _ := apiServer(t)
	auth := newAuth(client, time.Now)
	for i := range 3 * reviewCacheSize {
		if got := get(t, auth, fmt.Sprint("Bearer guess-", i)); got != http.StatusUnauthorized {
			t.Fatalf("status %d for a guessed token", got)
		}
		if n := len(auth.cache); n > reviewCacheSize {
			t.Fatalf("%d verdicts are kept, want at most %d", n, reviewCacheSize)
		}
	}
}

func TestMetricsAreClosedWhileTheAPIServerIsAway(t *testing.T) {
	auth := &metricsAuth{
		review: func(context.Context, string, string, string) (verdict, error) {
			return verdict{}, errors.New("connection refused")
		},
		now:   time.Now,
		cache: make(map[reviewKey]cachedVerdict),
	}
	if got := get(t, auth, "Bearer prom"); got != http.StatusServiceUnavailable {
		t.Errorf("status %d, want %d", got, http.StatusServiceUnavailable)
	}
	if len(auth.cache) != 0 {
		t.Error("a failure was remembered as a verdict")
	}
}

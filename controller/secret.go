package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// bootstrapSecret sees to it that the speakers have a key for their gossip.
func bootstrapSecret(ctx context.Context, k *kube, name string, log *slog.Logger) error {
	if name == "" {
		return nil
	}
	key := make([]byte, 16)
	if _, err := rand.Read(key); err != nil {
		return fmt.Errorf("draw the gossip key: %w", err)
	}
	text := base64.RawStdEncoding.EncodeToString(key)
	made, err := k.makeSecret(ctx, name, []byte(text))
	switch {
	case errors.Is(err, errNoKey):
		// Nothing that a controller may repair; the speakers say the same.
		log.Error("the gossip key is missing", "err", err)
		return nil
	case err != nil:
		return err
	case made:
		log.Info("made the gossip key", "secret", name)
	}
	return nil
}

// makeSecret creates the Secret with the gossip key if there is none. It never
// changes one that exists: the speakers would part into those with the old key
// and those with the new.
func (k *kube) makeSecret(ctx context.Context, name string, key []byte) (made bool, err error) {
	var have corev1.Secret
	err = k.live.Get(ctx, client.ObjectKey{Namespace: k.namespace, Name: name}, &have)
	switch {
	case err == nil && len(have.Data[secretKey]) == 0:
		return false, fmt.Errorf("the Secret %s/%s exists but has no key %q: %w", k.namespace, name, secretKey, errNoKey)
	case err == nil:
		return false, nil
	case !apierrors.IsNotFound(err):
		return false, fmt.Errorf("read Secret %s/%s: %w", k.namespace, name, err)
	}
	owners, err := k.owner(ctx)
	if err != nil {
		return false, err
	}
	err = k.client.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: k.namespace, Name: name, OwnerReferences: owners},
		Data:       map[string][]byte{secretKey: key},
	})
	if apierrors.IsAlreadyExists(err) {
		// The other replica was faster.
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("create Secret %s/%s: %w", k.namespace, name, err)
	}
	return true, nil
}

// secretKey is the key of the gossip Secret that the speakers read.
const secretKey = "secretkey"

var errNoKey = errors.New("delete it to have a new one made")

package controlplane

import (
	"context"
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// RESTConfig is the administrator's way in, from anywhere in this program: it
// dials from the place where the control plane runs.
func (cp *ControlPlane) RESTConfig() *rest.Config {
	return &rest.Config{
		Host: cp.URL(),
		TLSClientConfig: rest.TLSClientConfig{
			CAData: cp.Authority.PEM(), CertData: cp.Admin.Cert, KeyData: cp.Admin.Key,
		},
		Dial:  cp.Dial,
		QPS:   200,
		Burst: 400,
	}
}

// Bootstrap gives the node agents their rights: the role that kubelets have. They
// hold it by RBAC and not by the node authorizer, because the agent's library
// watches all Secrets and ConfigMaps, which that authorizer (rightly) denies.
func (cp *ControlPlane) Bootstrap(ctx context.Context, client kubernetes.Interface) error {
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "herald-lab:nodes"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "system:node"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "Group", Name: NodeGroup}},
	}
	_, err := client.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("give the node agents their role: %w", err)
	}
	return nil
}

package kubernetes

import (
	"errors"
	"fmt"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Connect returns how to reach a cluster: by a kubeconfig file, "" for that of kubectl, and one of its contexts, "" for
// its current one; or, in a pod and without a file, as the pod's service account. namespace is the one that this way
// names. It asks the API server nothing.
func Connect(kubeconfig, context string) (config *rest.Config, namespace string, err error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	how := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules,
		&clientcmd.ConfigOverrides{CurrentContext: context})
	if config, err = how.ClientConfig(); err != nil {
		if clientcmd.IsEmptyConfig(err) {
			err = errors.New("this is no pod of a cluster, and there is no kubeconfig")
		}
		return nil, "", fmt.Errorf("find the cluster: %w", err)
	}
	if namespace, _, err = how.Namespace(); err != nil {
		return nil, "", fmt.Errorf("find the cluster: %w", err)
	}
	return config, namespace, nil
}

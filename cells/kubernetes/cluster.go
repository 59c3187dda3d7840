package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/sluice-cd/sluice/cells"
)

const (
	requestTimeout = 35 * time.Second // webhooks have 30 s at most
	listPage       = 500
	mostAtOnce     = 16 // requests; the API server's priority and fairness slows down beyond what it can take
)

// cluster is the API server, as the target uses it. It may be used by several goroutines.
type cluster struct {
	dynamic dynamic.Interface
	served  *served
}

// warnings collects what the API server warns of, such as deprecated versions of an API.
type warnings struct {
	mu        sync.Mutex
	seen      map[string]bool
	onWarning func(string) // nil: nobody is told
}

const mostWarnings = 200

// HandleWarningHeader passes each warning on once: see rest.WarningHandler.
func (w *warnings) HandleWarningHeader(code int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if code != 299 || w.onWarning == nil || w.seen[text] || len(w.seen) >= mostWarnings {
		return
	}
	w.seen[text] = true
	w.onWarning(text)
}

func newCluster(config *rest.Config, onWarning func(string)) (*cluster, error) {
	config = rest.CopyConfig(config)
	config.QPS = -1 // the API server's priority and fairness limits, and answers 429 with Retry-After
	config.UserAgent = "sluice-agent"
	config.WarningHandler = &warnings{seen: map[string]bool{}, onWarning: onWarning}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	d, err := dynamic.NewForConfigAndClient(config, client)
	if err != nil {
		return nil, err
	}
	kinds, err := newServed(config, client)
	if err != nil {
		return nil, err
	}
	return &cluster{dynamic: d, served: kinds}, nil
}

// find returns how a kind is served: see served.find.
func (c *cluster) find(ctx context.Context, kind schema.GroupKind, version string) (resource, error) {
	return c.served.find(ctx, kind, version)
}

func (c *cluster) at(r resource, namespace string) dynamic.ResourceInterface {
	if !r.namespaced || namespace == "" {
		return c.dynamic.Resource(r.gvr)
	}
	return c.dynamic.Resource(r.gvr).Namespace(namespace)
}

// apply applies a manifest. force takes over the fields that others own; dry has the API server only say what it would
// do.
func (c *cluster) apply(ctx context.Context, r resource, m *unstructured.Unstructured, force, dry bool) (
	*unstructured.Unstructured, error,
) {
	options := metav1.ApplyOptions{FieldManager: fieldManager, Force: force}
	if dry {
		options.DryRun = []string{metav1.DryRunAll}
	}
	return request(ctx, func(ctx context.Context) (*unstructured.Unstructured, error) {
		return c.at(r, m.GetNamespace()).Apply(ctx, m.GetName(), m, options)
	})
}

// examine returns why a manifest can never be applied, if that is so. The API server answers to an apply of fields that
// are none, or have another type, as it does to its own trouble; to a create, which it is asked not to carry out, it
// answers precisely.
func (c *cluster) examine(ctx context.Context, r resource, m *unstructured.Unstructured, err error) error {
	if apierrors.ReasonForError(err) != metav1.StatusReasonUnknown {
		return err
	}
	if _, ok := errors.AsType[*apierrors.StatusError](err); !ok {
		return err
	}
	_, precise := request(ctx, func(ctx context.Context) (*unstructured.Unstructured, error) {
		return c.at(r, m.GetNamespace()).Create(ctx, m, metav1.CreateOptions{
			DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict})
	})
	if apierrors.IsBadRequest(precise) || apierrors.IsInvalid(precise) {
		return precise
	}
	return err
}

// get returns an object; nil: there is none.
func (c *cluster) get(ctx context.Context, r resource, of id) (*unstructured.Unstructured, error) {
	live, err := request(ctx, func(ctx context.Context) (*unstructured.Unstructured, error) {
		return c.at(r, of.Namespace).Get(ctx, of.Name, metav1.GetOptions{})
	})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return live, err
}

// delete asks for the deletion of an object, if it has that UID still. how says when what it owns goes.
func (c *cluster) delete(ctx context.Context, r resource, of id, uid types.UID, how metav1.DeletionPropagation) error {
	_, err := request(ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, c.at(r, of.Namespace).Delete(ctx, of.Name, metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &uid}, PropagationPolicy: &how,
		})
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) { // gone, or another of the same name
		return nil
	}
	return err
}

// list calls each for every object that a selector matches, and returns the resource version of the list.
func (c *cluster) list(ctx context.Context, r resource, namespace string, o metav1.ListOptions,
	each func(*unstructured.Unstructured),
) (version string, err error) {
	o.Limit = listPage
	for {
		page, err := request(ctx, func(ctx context.Context) (*unstructured.UnstructuredList, error) {
			return c.at(r, namespace).List(ctx, o)
		})
		if err != nil {
			return "", err
		}
		for i := range page.Items {
			each(&page.Items[i])
		}
		if o.Continue = page.GetContinue(); o.Continue == "" {
			return page.GetResourceVersion(), nil
		}
	}
}

// request gives one request its time limit.
func request[T any](ctx context.Context, do func(context.Context) (T, error)) (T, error) {
	limited, cancel := context.WithTimeoutCause(ctx, requestTimeout,
		fmt.Errorf("the API server did not answer within %s", requestTimeout))
	defer cancel()
	answer, err := do(limited)
	if err != nil && ctx.Err() == nil && limited.Err() != nil {
		err = context.Cause(limited)
	}
	return answer, err
}

// unavailable says that the API server could not be asked, or refuses to answer.
func unavailable(what string, err error) error {
	if status, ok := errors.AsType[*apierrors.StatusError](err); ok && apierrors.IsForbidden(err) {
		return &cells.UnavailableError{Cause: fmt.Errorf("%s: %s: the cell's owner grants it", what,
			status.Status().Message)}
	}
	return &cells.UnavailableError{Cause: fmt.Errorf("%s: %w", what, err)}
}

package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
)

// resource is a kind of object, as the API server serves it.
type resource struct {
	kind       schema.GroupKind
	gvr        schema.GroupVersionResource
	namespaced bool
	hasStatus  bool // its status is written apart, so a controller writes it
}

// notServed says that the API server does not have a kind, or not in that version.
type notServed struct {
	kind     schema.GroupKind
	version  string
	versions []string // that it has
}

func (e *notServed) Error() string {
	return fmt.Sprintf("%s is not served in version %q", e.kind, e.version)
}

func isNotServed(err error) bool {
	_, ok := errors.AsType[*notServed](err)
	return ok
}

// served knows what the API server serves. client-go's own discovery would link the types of all its APIs, which make
// an agent half as large again in memory.
type served struct {
	client *http.Client
	base   *url.URL

	mu    sync.Mutex // guards what follows
	kinds map[schema.GroupKind][]resource
	asked time.Time // when kinds were asked for; zero: they must be
}

// What the API server serves changes with definitions and upgrades. It is asked anew after a while, and soon if a kind
// is not found.
const (
	servedFor     = 10 * time.Minute
	servedAtLeast = 2 * time.Second
	maxServed     = 64 << 20 // bytes of an answer
)

func newServed(config *rest.Config, client *http.Client) (*served, error) {
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, err
	}
	return &served{client: client, base: base}, nil
}

// forget makes the next find ask anew.
func (s *served) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = time.Time{}
}

// find returns how a kind is served. A version of "" means the one that the API server prefers. An error is a
// *notServed, or says that the API server could not be asked.
func (s *served) find(ctx context.Context, kind schema.GroupKind, version string) (resource, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.asked) > servedFor {
		if err := s.ask(ctx); err != nil {
			return resource{}, err
		}
	}
	found, ok := s.look(kind, version)
	if !ok && time.Since(s.asked) > servedAtLeast {
		if err := s.ask(ctx); err != nil {
			return resource{}, err
		}
		found, ok = s.look(kind, version)
	}
	if ok {
		return found, nil
	}
	e := &notServed{kind: kind, version: version}
	for _, r := range s.kinds[kind] {
		e.versions = append(e.versions, r.gvr.Version)
	}
	return resource{}, e
}

func (s *served) look(kind schema.GroupKind, version string) (resource, bool) {
	all := s.kinds[kind]
	i := slices.IndexFunc(all, func(r resource) bool { return version == "" || r.gvr.Version == version })
	if i < 0 {
		return resource{}, false
	}
	return all[i], true
}

// groups is an APIGroupDiscoveryList of group apidiscovery.k8s.io, as far as it is needed.
type groups struct {
	Kind  string `json:"kind"`
	Items []struct {
		Metadata struct {
			Name string `json:"name"`
		} `json:"metadata"`
		Versions []struct {
			Version   string `json:"version"`
			Resources []struct {
				Resource     string                  `json:"resource"`
				ResponseKind schema.GroupVersionKind `json:"responseKind"`
				Scope        scope                   `json:"scope"`
				Subresources []struct {
					Subresource string `json:"subresource"`
				} `json:"subresources"`
			} `json:"resources"`
		} `json:"versions"`
	} `json:"items"`
}

// ask asks what is served: two requests. s.mu is held.
func (s *served) ask(ctx context.Context) error {
	kinds := map[schema.GroupKind][]resource{}
	for _, path := range []string{"/api", "/apis"} {
		list, err := s.fetch(ctx, path)
		if err != nil {
			return fmt.Errorf("ask what the cluster serves: %w", err)
		}
		list.addTo(kinds)
	}
	s.kinds, s.asked = kinds, time.Now()
	return nil
}

func (g *groups) addTo(kinds map[schema.GroupKind][]resource) {
	for _, group := range g.Items {
		for _, v := range group.Versions {
			for _, r := range v.Resources {
				// A subresource, such as deployments/scale, is in the list below its resource.
				kind := schema.GroupKind{Group: group.Metadata.Name, Kind: r.ResponseKind.Kind}
				found := resource{kind: kind, namespaced: r.Scope == scopeNamespace,
					gvr: schema.GroupVersionResource{Group: kind.Group, Version: v.Version, Resource: r.Resource}}
				for _, sub := range r.Subresources {
					found.hasStatus = found.hasStatus || sub.Subresource == "status"
				}
				kinds[kind] = append(kinds[kind], found)
			}
		}
	}
}

func (s *served) fetch(ctx context.Context, path string) (*groups, error) {
	return request(ctx, func(ctx context.Context) (*groups, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base.JoinPath(path).String(), nil)
		if err != nil {
			return nil, err
		}
		r.Header.Set("Accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"+
			"application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList")
		answer, err := s.client.Do(r)
		if err != nil {
			return nil, err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s: %s", path, answer.Status)
		}
		var list groups
		if err := json.NewDecoder(io.LimitReader(answer.Body, maxServed)).Decode(&list); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if list.Kind != "APIGroupDiscoveryList" {
			return nil, fmt.Errorf("%s: an answer of kind %q: Kubernetes 1.26 or newer is needed", path, list.Kind)
		}
		return &list, nil
	})
}

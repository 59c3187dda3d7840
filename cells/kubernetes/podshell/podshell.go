package podshell

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/exec"

	"github.com/sluice-cd/sluice/cells/debug"
)

const (
	requestTimeout = 15 * time.Second
	startTimeout   = 30 * time.Second
	maxBody        = 4 << 20 // bytes of one answer

	// How long Run waits for the end of what the shell started: once its context ended, and before.
	endTime      = 400 * time.Millisecond
	leisuredTime = 10 * time.Second
)

// Shells runs shells in pods.
type Shells struct {
	config *rest.Config
	client rest.Interface
}

// New returns what runs shells in a cluster. It asks the API server nothing yet.
func New(config *rest.Config) (*Shells, error) {
	statuses := runtime.NewScheme() // answers that are errors; others are read as they are
	metav1.AddToGroupVersion(statuses, schema.GroupVersion{Version: "v1"})
	config = rest.CopyConfig(config)
	config.QPS = -1 // the API server's priority and fairness limits
	config.UserAgent = "sluice-agent"
	config.NegotiatedSerializer = serializer.NewCodecFactory(statuses).WithoutConversion()
	client, err := rest.UnversionedRESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("prepare to run shells in pods: %w", err)
	}
	return &Shells{config: config, client: client}, nil
}

// pod is what shells need to know of a pod.
type pod struct {
	Metadata struct {
		UID string `json:"uid"`
	} `json:"metadata"`
	Spec struct {
		InitContainers      []container `json:"initContainers"`
		Containers          []container `json:"containers"`
		EphemeralContainers []container `json:"ephemeralContainers"`
	} `json:"spec"`
}

type container struct {
	Name  string `json:"name"`
	Image string `json:"image"`
}

// Find returns the pod that has a name now, with its UID and, if none is named, its only container, and that
// container's image.
func (s *Shells) Find(ctx context.Context, wanted debug.Pod) (found debug.Pod, image string, err error) {
	p, err := s.get(ctx, wanted)
	if err != nil {
		return debug.Pod{}, "", err
	}
	all := p.Spec.Containers
	if wanted.Container == "" && len(all) == 1 {
		wanted.Container = all[0].Name
	}
	all = append(append(all, p.Spec.InitContainers...), p.Spec.EphemeralContainers...)
	var names []string
	for _, c := range all {
		if c.Name == wanted.Container {
			wanted.UID = p.Metadata.UID
			return wanted, c.Image, wanted.Validate()
		}
		names = append(names, c.Name)
	}
	if wanted.Container == "" {
		return debug.Pod{}, "", fmt.Errorf("pod %s/%s has several containers: name one of %s, as NAMESPACE/POD/CONTAINER",
			wanted.Namespace, wanted.Name, strings.Join(names, ", "))
	}
	return debug.Pod{}, "", fmt.Errorf("pod %s/%s has no container %s: name one of %s", wanted.Namespace, wanted.Name,
		wanted.Container, strings.Join(names, ", "))
}

func (s *Shells) get(ctx context.Context, of debug.Pod) (pod, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, requestTimeout,
		fmt.Errorf("the API server did not answer within %s", requestTimeout))
	defer cancel()
	var p pod
	body, err := s.client.Get().AbsPath("/api", "v1", "namespaces", of.Namespace, "pods", of.Name).Stream(ctx)
	if err == nil {
		err = json.NewDecoder(io.LimitReader(body, maxBody)).Decode(&p)
		_ = body.Close()
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return pod{}, explain(err, "find pod "+of.Namespace+"/"+of.Name)
	}
	return p, nil
}

// check returns an error if the pod is not the one that was permitted.
func (s *Shells) check(ctx context.Context, permitted debug.Pod) error {
	p, err := s.get(ctx, permitted)
	if err != nil {
		return err
	}
	if p.Metadata.UID != permitted.UID {
		return fmt.Errorf("pod %s/%s was made anew since the owner permitted a shell in it (its UID is %s now, and was "+
			"%s): ask the owner once more", permitted.Namespace, permitted.Name, p.Metadata.UID, permitted.UID)
	}
	return nil
}

// Run runs a shell to its end, or until ctx ends, and has what it started killed. It returns the shell's exit code. The
// error is debug.ErrMayGoOn if something may not have ended, and another one if the shell did not run.
func (s *Shells) Run(ctx context.Context, in debug.Pod, what debug.PodShell) (code int, err error) {
	if err := s.check(ctx, in); err != nil {
		return 0, err
	}
	ending, err := s.prepareEnd(ctx, in, what.Request)
	if err != nil {
		return 0, err
	}
	sh := s.start(ctx, in, what)
	err = sh.awaitBegin(ctx)
	if err == nil {
		err = s.check(ctx, in) // it was this pod's at both times, so it was when the shell began
	}
	if err == nil {
		sh.letPass()
		err = sh.await(ctx, ending)
	}
	sh.stop(context.Canceled)
	left := ending.finish(ctx)
	var exit exec.CodeExitError
	switch {
	case left != nil:
		return 0, fmt.Errorf("%w: %w", debug.ErrMayGoOn, left)
	case errors.As(err, &exit):
		return exit.Code, nil
	case err != nil:
		return 0, explain(err, "run a shell in the "+in.String())
	}
	return 0, nil
}

// End kills what a session's shells started in a pod, and is left. A pod that is gone, or was made anew, has nothing.
func (s *Shells) End(ctx context.Context, in debug.Pod, request string) error {
	p, err := s.get(ctx, in)
	if apierrors.IsNotFound(err) || err == nil && p.Metadata.UID != in.UID {
		return nil
	}
	if err != nil {
		return err
	}
	ending, err := s.prepareEnd(ctx, in, request)
	if err != nil {
		return err
	}
	return ending.finish(ctx)
}

// explain says what failed and, where the agent lacks a right, who grants it.
func explain(err error, what string) error {
	if strings.Contains(err.Error(), " is forbidden: ") { // an answer to an upgrade is no status, but a text
		return fmt.Errorf("%s: %w: the cell's owner grants it (sluice agent manifest --shells has the role)", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

var errNoShell = errors.New("the container's image has no sh, so there can be no session in it; its owner can add a " +
	"container that has one to the pod, by kubectl debug, and permit a shell there")

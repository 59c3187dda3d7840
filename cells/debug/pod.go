package debug

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
)

// Pod is the container in which a shell runs, of the one pod that the owner looked at.
type Pod struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Container string `json:"container"`
	UID       string `json:"uid"` // of the pod: one that is made anew under the name is another
}

// objectName matches what a part of a pod's name may be, and what can stand in a path of the cluster's API.
var objectName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)
})

// ParsePod reads NAMESPACE/POD, or NAMESPACE/POD/CONTAINER.
func ParsePod(text string) (Pod, error) {
	parts := strings.Split(text, "/")
	ok := len(parts) == 2 || len(parts) == 3
	for _, p := range parts {
		ok = ok && objectName().MatchString(p)
	}
	if !ok {
		return Pod{}, fmt.Errorf("%.300q is no pod: use NAMESPACE/POD, or NAMESPACE/POD/CONTAINER", text)
	}
	return Pod{Namespace: parts[0], Name: parts[1], Container: strings.Join(parts[2:], "")}, nil
}

// Validate checks that the pod is a single one, with its container.
func (p Pod) Validate() error {
	if _, err := ParsePod(p.Namespace + "/" + p.Name + "/" + p.Container); err != nil {
		return err
	}
	if p.UID == "" {
		return fmt.Errorf("the pod %s/%s has no UID, which tells it from others of its name", p.Namespace, p.Name)
	}
	return nil
}

// String names the container in a sentence.
func (p Pod) String() string {
	return fmt.Sprintf("container %s of pod %s/%s", p.Container, p.Namespace, p.Name)
}

// PodShell is a shell that is to run in a container.
type PodShell struct {
	Request  string // its ID, by which all that the shell starts is found
	Line     string // that the shell runs; empty: what it reads
	In       io.Reader
	Out, Err io.Writer
	Terminal string              // its name, such as xterm; empty: pipes
	Sizes    <-chan TerminalSize // of the terminal, each when it changes
}

// TerminalSize is a terminal's, in characters.
type TerminalSize struct{ Columns, Rows uint16 }

// ErrMayGoOn means that what a session started in a pod may not have ended with it.
var ErrMayGoOn = errors.New("what the session started in the pod may go on there")

// Package cluster runs real Kubernetes control planes for tests: etcd, the API server, the controllers, the scheduler,
// and kwok, which plays the nodes, so that Deployments roll out. test/kube builds the programs, once.
//
// A cluster listens on loopback alone, keeps its data in a temporary folder, and its processes end with the process
// that started them. Containers never run: a pod is ready at once, unless its image has the tag bad, which crash-loops.
// The package touches no cluster that it did not start.
//
// RunTests makes one cluster for a package's tests; New makes one for a test that stops its parts. A Cluster's methods
// may be called by one goroutine at a time, but Kubectl by many at once.
package cluster

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-cd/sluice/test/ports"
)

// startTimeout bounds the start of one part, on a machine that is busy.
const startTimeout = 3 * time.Minute

// Cluster is a running control plane, which must be closed.
type Cluster struct {
	Kubeconfig string // the file of an administrator
	Server     string // https://127.0.0.1:PORT

	assets string // folder of the programs
	dir    string
	token  string
	ports  []int // of the API server, and of etcd for clients and peers
	parts  map[string]*part
}

// part is one process of a cluster.
type part struct {
	command *exec.Cmd
	exited  chan struct{}
}

// Start starts a cluster with some nodes, and returns once they are ready.
func Start(ctx context.Context, nodes int) (*Cluster, error) {
	assets, err := findAssets(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "sluice-cluster-")
	if err != nil {
		return nil, err
	}
	c := &Cluster{assets: assets, dir: dir, token: rand.Text(), parts: map[string]*part{},
		Kubeconfig: filepath.Join(dir, "kubeconfig")}
	if err := c.start(ctx, nodes); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// StartMany starts clusters, two at a time. If one can't be started, none is left.
func StartMany(ctx context.Context, n, nodes int) ([]*Cluster, error) {
	all := make([]*Cluster, n)
	var starting errgroup.Group
	starting.SetLimit(2)
	for i := range all {
		starting.Go(func() (err error) {
			all[i], err = Start(ctx, nodes)
			return err
		})
	}
	if err := starting.Wait(); err != nil {
		return nil, errors.Join(err, CloseAll(all))
	}
	return all, nil
}

// CloseAll closes clusters, of which some may be nil.
func CloseAll(all []*Cluster) error {
	var faults []error
	for _, c := range all {
		if c != nil {
			faults = append(faults, c.Close())
		}
	}
	return errors.Join(faults...)
}

// Programs returns the folder of the programs, among them kubectl.
func (c *Cluster) Programs() string { return c.assets }

// open returns a cluster that another process started.
func open(ctx context.Context, kubeconfig string) (*Cluster, error) {
	assets, err := findAssets(ctx)
	return &Cluster{assets: assets, Kubeconfig: kubeconfig}, err
}

// findAssets returns the folder of the programs, and has them built if they are not there.
func findAssets(ctx context.Context) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for script := ""; ; dir = filepath.Dir(dir) {
		script = filepath.Join(dir, "test", "kube", "ensure.sh")
		if _, err := os.Stat(script); err == nil {
			build := exec.CommandContext(ctx, script)
			build.Stderr = os.Stderr
			out, err := build.Output()
			if err != nil {
				return "", fmt.Errorf("build the programs of a cluster (make cluster does it): %w", err)
			}
			return strings.TrimSpace(string(out)), nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no folder above has test/kube/ensure.sh")
		}
	}
}

func (c *Cluster) start(ctx context.Context, nodes int) error {
	var err error
	if c.ports, err = ports.Free(3); err != nil {
		return err
	}
	c.Server = fmt.Sprintf("https://127.0.0.1:%d", c.ports[0])
	if err := c.writeFiles(); err != nil {
		return err
	}
	return errors.Join(c.StartEtcd(), c.StartAPIServer(ctx), c.startControllers(), c.addNodes(ctx, nodes))
}

func (c *Cluster) path(name string) string { return filepath.Join(c.dir, name) }

// writeFiles writes the service accounts' key, the administrator's token and kubeconfig, and kwok's stages.
func (c *Cluster) writeFiles() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	stages, err := exec.Command(filepath.Join(c.assets, "kwok-stages")).Output()
	if err != nil {
		return fmt.Errorf("kwok's stages: %w", err)
	}
	crashLoop, err := os.ReadFile(filepath.Join(moduleDir(), "test", "kube", "crashloop-stage.yaml"))
	if err != nil {
		return err
	}
	files := map[string]string{
		"sa.key": string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private})),
		"sa.pub": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
		"tokens": c.token + `,admin,admin,"system:masters"` + "\n",
		"stages": withoutBadPods(string(stages)) + "---\n" + string(crashLoop),
		"kubeconfig": fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: x\n"+
			"clusters: [{name: c, cluster: {server: %q, certificate-authority: %q}}]\n"+
			"users: [{name: u, user: {token: %q}}]\ncontexts: [{name: x, context: {cluster: c, user: u}}]\n",
			c.Server, c.path("certs/apiserver.crt"), c.token),
	}
	for name, text := range files {
		if err := os.WriteFile(c.path(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// withoutBadPods keeps kwok's stage that makes pods ready from those with an image of the tag bad.
func withoutBadPods(stages string) string {
	documents := strings.Split(stages, "---\n")
	for i, d := range documents {
		if strings.Contains(d, "name: pod-ready") {
			documents[i] = strings.Replace(d, "matchExpressions:\n", "matchExpressions:\n    - key: "+
				`'.spec.containers.[].image | test(":bad")'`+"\n      operator: NotIn\n      values: ['true']\n", 1)
		}
	}
	return strings.Join(documents, "---\n")
}

func moduleDir() string {
	dir, err := os.Getwd()
	for err == nil && dir != filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "test", "kube", "ensure.sh")); err == nil {
			return dir
		}
		dir = filepath.Dir(dir)
	}
	return "."
}

// launch starts a part, whose output goes to a file.
func (c *Cluster) launch(name, program string, args ...string) error {
	log, err := os.OpenFile(c.path(name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	p := &part{command: exec.Command(filepath.Join(c.assets, program), args...), exited: make(chan struct{})}
	p.command.Stdout, p.command.Stderr = log, log
	p.command.Env = append(os.Environ(), "GOMAXPROCS=2", "KWOK_WORKDIR="+c.dir)
	p.command.SysProcAttr = childAttributes()
	started := make(chan error)
	go runOnLockedThread(func() {
		err := p.command.Start()
		started <- err
		if err == nil {
			_ = p.command.Wait() // its log says why it ended
		}
		_ = log.Close()
		close(p.exited)
	})
	if err := <-started; err != nil {
		return err
	}
	c.parts[name] = p
	return nil
}

// stop kills a part, as a machine that fails does.
func (c *Cluster) stop(name string) {
	if p := c.parts[name]; p != nil {
		_ = p.command.Process.Kill() // it may have ended
		<-p.exited
		delete(c.parts, name)
	}
}

// StartEtcd starts the store.
func (c *Cluster) StartEtcd() error {
	client, peer := fmt.Sprintf("http://127.0.0.1:%d", c.ports[1]), fmt.Sprintf("http://127.0.0.1:%d", c.ports[2])
	return c.launch("etcd", "etcd", "--name", "c", "--data-dir", c.path("etcd"), "--listen-client-urls", client,
		"--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
		"--initial-cluster", "c="+peer, "--log-level", "warn", "--unsafe-no-fsync")
}

// StopEtcd kills the store.
func (c *Cluster) StopEtcd() { c.stop("etcd") }

// BackUpEtcd copies the store, which must be stopped.
func (c *Cluster) BackUpEtcd() error {
	return os.CopyFS(c.path("etcd.backup"), os.DirFS(c.path("etcd")))
}

// RestoreEtcd puts the copy in the place of the store, which must be stopped.
func (c *Cluster) RestoreEtcd() error {
	return errors.Join(os.RemoveAll(c.path("etcd")), os.Rename(c.path("etcd.backup"), c.path("etcd")))
}

// StopAPIServer kills the API server.
func (c *Cluster) StopAPIServer() { c.stop("apiserver") }

// StartAPIServer starts the API server, and returns once it is ready.
func (c *Cluster) StartAPIServer(ctx context.Context) error {
	if err := c.launchAPIServer(); err != nil {
		return err
	}
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // it is asked whether it is up
	return c.await(ctx, "the API server is ready", func() bool {
		select {
		case <-c.parts["apiserver"].exited: // it found no store, as where a busy machine is slow to start that
			_ = c.launchAPIServer() // an error: there is another try
			return false
		default:
		}
		answer, err := client.Get(c.Server + "/readyz")
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
		return err == nil && string(body) == "ok"
	})
}

func (c *Cluster) launchAPIServer() error {
	return c.launch("apiserver", "kube-apiserver", "--etcd-servers", fmt.Sprintf("http://127.0.0.1:%d", c.ports[1]),
		"--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1", "--secure-port", fmt.Sprint(c.ports[0]),
		"--cert-dir", c.path("certs"),
		"--endpoint-reconciler-type", "none", "--service-cluster-ip-range", "10.96.0.0/16",
		"--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", c.path("sa.pub"),
		"--service-account-signing-key-file", c.path("sa.key"), "--token-auth-file", c.path("tokens"),
		"--authorization-mode", "Node,RBAC", "--allow-privileged", "--profiling=false")
}

func (c *Cluster) startControllers() error {
	kubeconfig := "--kubeconfig=" + c.Kubeconfig
	return errors.Join(
		c.launch("controllers", "kube-controller-manager", kubeconfig, "--leader-elect=false", "--secure-port=0",
			"--service-account-private-key-file", c.path("sa.key"), "--root-ca-file", c.path("certs/apiserver.crt"),
			"--node-monitor-grace-period=300s"),
		c.launch("scheduler", "kube-scheduler", kubeconfig, "--leader-elect=false", "--secure-port=0"),
		c.launch("kwok", "kwok", kubeconfig, "--manage-all-nodes", "--config", c.path("stages"),
			"--node-ip", "127.0.0.1", "--cidr", "10.244.0.0/16", "--node-lease-duration-seconds", "300"))
}

func (c *Cluster) addNodes(ctx context.Context, n int) error {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "---\napiVersion: v1\nkind: Node\nmetadata:\n  name: node-%d\n"+
			"  annotations: {kwok.x-k8s.io/node: fake}\n"+
			"  labels: {kubernetes.io/hostname: node-%d, kubernetes.io/os: linux, type: kwok}\n"+
			"status:\n  allocatable: {cpu: '32', memory: 256Gi, pods: '110'}\n"+
			"  capacity: {cpu: '32', memory: 256Gi, pods: '110'}\n", i, i)
	}
	if n == 0 {
		return nil
	}
	if out, err := c.Kubectl(ctx, text.String(), "create", "-f", "-"); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return c.await(ctx, "nodes and the default service account are ready", func() bool {
		out, err := c.Kubectl(ctx, "", "get", "nodes", "-o", "jsonpath={range .items[*]}{.status.conditions}{end}")
		_, missing := c.Kubectl(ctx, "", "get", "serviceaccount", "default")
		return err == nil && missing == nil && strings.Count(out, `"KubeletReady"`) >= n
	})
}

// await looks again and again whether something is so.
func (c *Cluster) await(ctx context.Context, what string, isSo func() bool) error {
	until := time.Now().Add(startTimeout)
	for !isSo() {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Now().After(until):
			return fmt.Errorf("not within %s: %s; the logs are in %s", startTimeout, what, c.dir)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil
}

// Kubectl runs kubectl as an administrator, and returns what it printed.
func (c *Cluster) Kubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(c.assets, "kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig)
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// Close stops all parts and removes the folder.
func (c *Cluster) Close() error {
	for _, name := range []string{"kwok", "scheduler", "controllers", "apiserver", "etcd"} {
		c.stop(name)
	}
	if c.dir == "" {
		return nil
	}
	return os.RemoveAll(c.dir)
}

package diagnostics_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/releases/diagnostics"
)

const logsText = `apiVersion: sluice/v1
kind: Diagnostics
logs:
  - name: web
    description: One line for each request
    unit: shop-web.service
  - name: access
    file: /var/log/shop/access.log
  - name: workspaces
    pods: {namespace: shop, labels: {app: workspace, tier: "1"}}
  - name: queue
    pods: {workload: statefulset/queue}
`

func parseLogs(t testing.TB) diagnostics.Logs {
	t.Helper()
	d, faults := diagnostics.Parse("diagnostics.yaml", []byte(logsText))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return diagnostics.Logs(d.Logs).With(diagnostics.Logs{
		{Name: "deployment/api", Pods: &diagnostics.Pods{Workload: "deployment/api"}},
		{Name: "job/api", Pods: &diagnostics.Pods{Workload: "job/api"}},
		{Name: "other/deployment/cache", Pods: &diagnostics.Pods{Namespace: "other", Workload: "deployment/cache"}}})
}

func TestResolveLogs(t *testing.T) {
	t.Parallel()
	l := parseLogs(t)
	for line, want := range map[string]string{
		"logs web": "journalctl --unit=shop-web.service --no-pager --output=short-iso --lines=100",
		"logs web --since 10m": "journalctl --unit=shop-web.service --no-pager --output=short-iso --lines=10000 " +
			"--since=-600s",
		"logs -f --tail=7 web": "journalctl --unit=shop-web.service --no-pager --output=short-iso --lines=7 --follow",
		"logs access --tail 5": "",
		"logs access --follow": "",
		"logs workspaces":      "",
		"logs deployment/api":  "",
		"logs cache -p":        "",
	} {
		r, err := l.Resolve(line)
		if err != nil || strings.Join(r.Args(), " ") != want {
			t.Errorf("%s: %q, %v", line, r.Args(), err)
		}
	}
	r, err := l.Resolve("logs cache --since 1h --previous -c web")
	if err != nil || r.Log.Name != "other/deployment/cache" || r.Since != time.Hour || !r.Previous ||
		r.Container != "web" || r.Tail != diagnostics.MaxTail {
		t.Error(r, err)
	}
	help := l.Help()
	for _, part := range []string{"web\n    reads: the journal of shop-web.service\n    One line for each request\n",
		"the pods with app=workspace, tier=1 in namespace shop", "the pods of statefulset/queue\n"} {
		if !strings.Contains(help, part) {
			t.Errorf("%q is not in %s", part, help)
		}
	}
}

// What a person writes chooses one of the logs and bounded options, and nothing else.
func TestResolveLogsRefusals(t *testing.T) {
	t.Parallel()
	l := parseLogs(t)
	for _, line := range []string{
		"", "logs", "web", "logs web access", "logs nothing", "logs api", "logs /etc/passwd", "logs ../web", "cat web",
		"logs web --since", "logs web --since -1m", "logs web --since 1000h", "logs web --tail 0x",
		"logs web --tail -1", "logs web --tail 10001", "logs web --file=/etc/shadow", "logs web --unit=ssh",
		"logs web -- -x", "logs web --help",
		"logs web --previous", "logs web --container c", "logs access --since 1m", "logs cache -p -f",
		"logs cache --container ../x", "logs cache --container=a?b", "logs web " + strings.Repeat("a", 5000),
	} {
		if r, err := l.Resolve(line); err == nil {
			t.Errorf("%.60q: %+v", line, r)
		}
	}
}

func TestParseLogsRefusals(t *testing.T) {
	t.Parallel()
	for name, change := range map[string][2]string{
		"nothing":     {"    unit: shop-web.service\n", ""},
		"two":         {"    unit: shop-web.service\n", "    unit: shop-web.service\n    file: /a\n"},
		"name":        {"name: web", "name: a/b"},
		"twice":       {"name: web", "name: access"},
		"option":      {"unit: shop-web.service", "unit: --all"},
		"pattern":     {"unit: shop-web.service", `unit: "*"`},
		"relative":    {"file: /var/log", "file: var/log"},
		"above":       {"file: /var/log", "file: /var/../log"},
		"device":      {"file: /var/log/shop/access.log", "file: /dev/zero"},
		"kernel":      {"file: /var/log/shop/access.log", "file: /proc/kmsg"},
		"kind":        {"statefulset/queue", "secret/queue"},
		"no kind":     {"statefulset/queue", "queue"},
		"path":        {"statefulset/queue", "statefulset/../x"},
		"all pods":    {`labels: {app: workspace, tier: "1"}`, "labels: {}"},
		"label":       {"app: workspace", "app: a b"},
		"label name":  {"app: workspace", "a b: x"},
		"namespace":   {"namespace: shop", "namespace: ../x"},
		"description": {"description: One line", "description: \"\\e[2J"},
		"unknown":     {"    unit: shop-web.service\n", "    unit: shop-web.service\n    shell: true\n"},
	} {
		changed := strings.Replace(logsText, change[0], change[1], 1)
		if changed == logsText {
			t.Fatal(name)
		}
		if _, faults := diagnostics.Parse("diagnostics.yaml", []byte(changed)); len(faults) == 0 {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzResolveLogs(f *testing.F) {
	f.Add("logs web --since 10m --tail 5 -f")
	l := parseLogs(f)
	f.Fuzz(func(t *testing.T, line string) {
		r, err := l.Resolve(line)
		if err != nil {
			return
		}
		if !slices.ContainsFunc(l, func(known diagnostics.Log) bool { return known.Name == r.Log.Name }) {
			t.Errorf("%q reads %q", line, r.Log.Name)
		}
		if r.Tail < 1 || r.Tail > diagnostics.MaxTail || r.Since < 0 || r.Since > diagnostics.MaxSince {
			t.Errorf("%q: %+v", line, r)
		}
		if args := r.Args(); len(args) > 0 && args[0] != "journalctl" {
			t.Errorf("%q runs %q", line, args)
		}
	})
}

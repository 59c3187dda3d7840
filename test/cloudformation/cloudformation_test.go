// Package cloudformation holds what Sluice says of CloudFormation templates against others' words: AWS's cfn-guard
// with our rules in its own language, and the templates that two open-source projects keep for their tests. It is a
// module of its own, since it downloads both.
package cloudformation

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/releases/infrastructure/template"
)

const guardPackage = "@cdklabs/cdk-validator-cfnguard@0.0.62"

// guard returns the path of cfn-guard, out of AWS's npm package.
func guard(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "npm", "pack", "--silent", guardPackage)
	cmd.Dir = dir
	packed, err := cmd.Output()
	if err != nil {
		t.Fatalf("npm pack %s: %v: install Node and npm", guardPackage, err)
	}
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	file := "package/bin/ubuntu/" + arch + "/cfn-guard"
	unpack := exec.CommandContext(t.Context(), "tar", "-xzf", strings.TrimSpace(string(packed)), file)
	unpack.Dir = dir
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("unpack: %v: %s", err, out)
	}
	return filepath.Join(dir, file)
}

func sample(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile("../../fixtures/workspaces/infrastructure/8/" + name + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Both samples pass both tools; what breaks a rule fails in both, by the same rule.
func TestGuardAgrees(t *testing.T) {
	program := guard(t)
	trust := "Principal: {Service: pods.eks.amazonaws.com}"
	readParameter := `Action: ["ssm:GetParameter", "ssm:GetParameters"]`
	for name, c := range map[string]struct{ file, old, next, rule, guards string }{
		"role":     {"role", "", "", "", ""},
		"instance": {"instance", "", "", "", ""},
		"anybody": {"instance", "CidrIp: !GetAtt Vpc.CidrBlock, D", "CidrIp: 0.0.0.0/0, D", "no-ingress",
			"no_ingress_group"},
		"prefix list": {"instance", "CidrIp: !GetAtt Vpc.CidrBlock, D", "SourcePrefixListId: pl-1, D",
			"no-ingress", "no_ingress_group"},
		"another's group": {"instance", "CidrIp: !GetAtt Vpc.CidrBlock, D", "SourceSecurityGroupId: sg-1, D",
			"no-ingress", "no_ingress_group"},
		"public cluster": {"instance", "EndpointPublicAccess: false", "EndpointPublicAccess: true",
			"no-ingress", "no_ingress_cluster"},
		"public subnet": {"instance", "MapPublicIpOnLaunch: false", "MapPublicIpOnLaunch: true", "no-ingress",
			"no_ingress_subnet"},
		"everybody":     {"role", trust, "Principal: \"*\"", "no-wildcard-trust", "no_wildcard_trust"},
		"every account": {"role", trust, "Principal: {AWS: \"*\"}", "no-wildcard-trust", "no_wildcard_trust"},
		"an account": {"role", trust, "Principal: {AWS: \"123456789012\"}", "no-outside-principal",
			"no_outside_principal"},
		"another's service": {"role", trust, "Principal: {Service: example.com}", "no-outside-principal",
			"no_outside_principal"},
		"execute": {"role", "- cloudformation:DescribeStacks", "- cloudformation:ExecuteChangeSet",
			"agent-may-not", "agent_may_not"},
		"pass":       {"role", readParameter, "Action: iam:PassRole", "agent-may-not", "agent_may_not"},
		"everything": {"role", readParameter, "Action: \"*\"", "agent-may-not", "agent_may_not"},
		"metadata":   {"role", "{Infrastructure: 8}", "{Infrastructure: 7}", "version", "version"},
		"parameter":  {"instance", "Value: \"8\"", "Value: \"7\"", "version", "version"},
		"described":  {"instance", "    Description: Instance type of the cluster's nodes.\n", "", "described", "described"},
	} {
		t.Run(name, func(t *testing.T) {
			text := sample(t, c.file)
			if !strings.Contains(text, c.old) {
				t.Fatalf("the sample has no %q", c.old)
			}
			if c.old != "" {
				text = strings.Replace(text, c.old, c.next, 1)
			}
			ours := template.Check(c.file+".yaml", []byte(text), 8, c.file == "instance")
			broken := filepath.Join(t.TempDir(), c.file+".yaml")
			if err := os.WriteFile(broken, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), program, "validate", "-r", "rules.guard", "-d", broken,
				"--show-summary", "fail").CombinedOutput()
			if c.rule == "" {
				if len(ours) > 0 || err != nil {
					t.Errorf("we say %v, and cfn-guard: %v\n%s", ours, err, out)
				}
				return
			}
			if len(ours) == 0 || !strings.HasPrefix(ours[0].Message, c.rule+": ") || ours[0].Line == 0 {
				t.Errorf("we say %v, want a fault of %s", ours, c.rule)
			}
			if err == nil || !strings.Contains(string(out), "rules.guard/"+c.guards+" ") {
				t.Errorf("cfn-guard says %v, want a failure of %s\n%.2000s", err, c.guards, out)
			}
		})
	}
}

// folder downloads a module, and returns where it is.
func folder(t *testing.T, module string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", module).Output()
	var found struct{ Dir string }
	if err == nil {
		err = json.Unmarshal(out, &found)
	}
	if err != nil {
		t.Fatalf("download %s: %v", module, err)
	}
	return found.Dir
}

// wrong are templates of others that really have faults, many of them on purpose: what our finding is about.
func wrong() map[string]string {
	return map[string]string{
		"anchors.yaml":                              "aliases",   // of rain alone: CloudFormation reads none
		"ccdeploy1-state.yaml":                      "\"State\"", // of rain alone
		"condition-stringlike.json":                 "needs AssumeRolePolicyDocument",
		"condition-stringlike.yaml":                 "needs AssumeRolePolicyDocument",
		"fmtmultiwithgt.yaml":                       "needs Role",
		"fmttestinput.yaml":                         "AWS::AccountID", // it is AWS::AccountId
		"fmtziplinesok.yaml":                        "needs Role",
		"ec2-eucentral-fail.yaml":                   "InstanceProfile",
		"lambda-fail.yaml":                          "needs Role",
		"lambda-succeed.yaml":                       "needs Role",
		"aurora-instance.yaml":                      "Cluster",
		"invalid.template":                          "AWS::S3::Pail",
		"schedule-off.yaml":                         "ScheduleGroupName",
		"globals.yml":                               "Globals", // without Transform
		"uncdk-expect.yaml":                         "Foo",
		"uncdk.yaml":                                "Foo",
		"resource-with-tags.json":                   "EcsClusterDefault",
		"invalid-template-additional-property.json": "Hello",
		"invalid-template-additional-resource-property.json": "Hello",
		"invalid-template-invalid-resource-subproperty.json": "is a list",
		"invalid-template-missing-resource-type.json":        "has no Type",
		"invalid-template-subproperty-missing-property.json": "needs Protocol",
		"invalid-template-unknown-resource-type.json":        "AWS::NewService::NewResourceType",
		"invalid-template-unknown-subproperty-property.json": "Hello",
	}
}

// Public templates give no false alarm on types, properties and references: only those that are wrong have faults, and
// each of these has the fault that it should.
func TestPublicTemplates(t *testing.T) {
	checked, found := 0, map[string]bool{}
	for module, folders := range map[string][]string{
		"github.com/aws-cloudformation/rain@v1.24.4": {"test/templates"},
		"github.com/awslabs/goformation/v7@v7.14.9":  {"test/yaml", "test/json"},
	} {
		root := folder(t, module)
		for _, below := range folders {
			err := filepath.WalkDir(filepath.Join(root, below), func(file string, d fs.DirEntry, err error) error {
				kinds := []string{".yaml", ".yml", ".json", ".template"}
				if err != nil || d.IsDir() || !slices.Contains(kinds, filepath.Ext(file)) {
					return err
				}
				data, err := os.ReadFile(file)
				if err != nil || !isTemplate(string(data)) {
					return err
				}
				checked++
				faults := template.CheckSchema(d.Name(), data)
				want, isWrong := wrong()[d.Name()]
				switch {
				case !isWrong && len(faults) > 0:
					t.Errorf("%s: %v", file, faults)
				case isWrong && len(faults) > 0 && strings.Contains(faults[0].Message, want):
					found[d.Name()] = true
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d templates, %d of them wrong", checked, len(found))
	if checked < 80 {
		t.Errorf("only %d templates were checked", checked)
	}
	for name := range wrong() {
		if !found[name] {
			t.Errorf("%s: its fault was not found", name)
		}
	}
}

// isTemplate reports whether a file is a template as CloudFormation reads it: rain has directives and modules of its
// own.
func isTemplate(text string) bool {
	for _, directive := range []string{"!Rain", "Rain:", "Rain\"", "Modules:"} {
		if strings.Contains(text, directive) {
			return false
		}
	}
	return strings.Contains(text, "Resources") && strings.Contains(text, "AWS::")
}

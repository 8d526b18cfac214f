package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Prometheus is the role of the process that watches the shop, if Options.Watch asks for one.
const Prometheus = "prometheus"

// ScrapeInterval is how often it asks each replica.
const ScrapeInterval = 5 * time.Second

// watchNamespace is the namespace label of all that is scraped: a local shop has none.
const watchNamespace = "local"

// watchConfig takes the scrape interval, the rule files and the file of targets. JSON strings are YAML.
const watchConfig = `global: { scrape_interval: %[1]s, scrape_timeout: 4s, evaluation_interval: %[1]s }
rule_files: %[2]s
scrape_configs:
  - job_name: coatcheck
    file_sd_configs: [{ files: [%[3]q] }]
`

// ruleFiles are those in the folder rules of watch, without their tests.
func ruleFiles(watch string) ([]string, error) {
	folder, err := filepath.Abs(filepath.Join(watch, "rules"))
	if err != nil {
		return nil, fmt.Errorf("the rules: %w", err)
	}
	all, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil {
		return nil, fmt.Errorf("the rules: %w", err)
	}
	var rules []string
	for _, file := range all {
		if !strings.HasSuffix(file, "_test.yaml") {
			rules = append(rules, file)
		}
	}
	if len(rules) == 0 {
		return nil, fmt.Errorf("no Prometheus rules (*.yaml) in %s", folder)
	}
	return rules, nil
}

// checkWatch finds what is missing for Options.Watch.
func (o Options) checkWatch() error {
	if o.Watch == "" {
		return nil
	}
	if _, err := exec.LookPath(Prometheus); err != nil {
		return errors.New("prometheus not found: apt-get install prometheus (Debian, Ubuntu) or brew install prometheus (macOS)")
	}
	_, err := ruleFiles(o.Watch)
	return err
}

// planWatch returns the process that watches the shop from addr. Its data stay,
// as the shop's do.
func (s *Shop) planWatch(addr string) (*child, error) {
	folder := filepath.Join(s.options.State, Prometheus)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("the folder of Prometheus: %w", err)
	}
	rules, err := ruleFiles(s.options.Watch)
	if err != nil {
		return nil, err
	}
	bounds := filepath.Join(folder, "replicas.yaml")
	if err := replace(bounds, []byte(s.bounds())); err != nil {
		return nil, fmt.Errorf("writing the bounds of replicas: %w", err)
	}
	list, err := json.Marshal(append(rules, bounds))
	if err != nil {
		return nil, err
	}
	config := filepath.Join(folder, "prometheus.yml")
	if err := replace(config, fmt.Appendf(nil, watchConfig, ScrapeInterval, list, s.targetsPath())); err != nil {
		return nil, fmt.Errorf("writing Prometheus' configuration: %w", err)
	}
	program, err := exec.LookPath(Prometheus)
	if err != nil {
		return nil, err
	}
	return &child{Process: Process{Role: Prometheus, Name: Prometheus, Address: addr}, path: program, args: []string{
		"--config.file=" + config, "--storage.tsdb.path=" + filepath.Join(folder, "data"), "--web.listen-address=" + addr,
		"--enable-feature=exemplar-storage", "--log.level=warn",
	}}, nil
}

// bounds are rules that say how many replicas there must be, and how many there
// can be where there are spares: what the chart says of its autoscalers.
func (s *Shop) bounds() string {
	text := "groups:\n  - name: coatcheck-replicas-bounds\n    rules:\n"
	say := func(bound, role string, n int) {
		text += fmt.Sprintf("      - { record: shop:replicas:%s, expr: vector(%d), labels: { job: coatcheck-%s, namespace: %s } }\n", bound, n, role, watchNamespace)
	}
	for _, r := range []struct {
		role string
		n    int
	}{{Gateway, s.options.Gateways}, {Auth, s.options.Auths}, {Cart, s.options.Carts}} {
		say("min", r.role, r.n)
		if s.options.Spares > 0 {
			say("max", r.role, r.n+s.options.Spares)
		}
	}
	return text
}

func (s *Shop) targetsPath() string {
	return filepath.Join(s.options.State, Prometheus, "targets.json")
}

// saveTargets tells Prometheus whom to scrape: those that run, or will again in
// a moment. Prometheus sees the file change.
func (s *Shop) saveTargets() error {
	type group struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels"`
	}
	groups := []group{}
	if s.options.Trial != "" {
		groups = append(groups, group{[]string{s.options.Trial}, map[string]string{"job": "coatcheck-trial", "namespace": watchNamespace}})
	}
	for _, c := range s.children {
		if c.Admin != "" && c.State != Stopped {
			groups = append(groups, group{[]string{c.Admin}, map[string]string{"job": "coatcheck-" + c.Role, "namespace": watchNamespace}})
		}
	}
	content, err := json.MarshalIndent(groups, "", "  ")
	if err != nil {
		return err
	}
	return replace(s.targetsPath(), append(content, '\n'))
}

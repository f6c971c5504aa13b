package drill

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// metrics reads what the control process shows of itself.
func (s *site) metrics(ctx context.Context) (map[string]float64, error) {
	return metricsOf(ctx, s.ControlOps)
}

// metricsOf reads what the process with that address for operators shows: values by name, labels included as they are written there.
func metricsOf(ctx context.Context, addr string) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	reply, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("metrics: %s", reply.Status)
	}
	values := map[string]float64{}
	for lines := bufio.NewScanner(reply.Body); ; {
		if !lines.Scan() {
			return values, lines.Err()
		}
		// A name may have labels with spaces; the value is behind the last one.
		at := strings.LastIndexByte(lines.Text(), ' ')
		if at < 0 || strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		value, err := strconv.ParseFloat(lines.Text()[at+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("metrics: %q: %w", lines.Text(), err)
		}
		values[lines.Text()[:at]] = value
	}
}

// sick sums what the servers' metrics say of nodes that are out of service for a reason.
func (s *site) sick(ctx context.Context, reason string) (n float64, err error) {
	for _, v := range s.Servers {
		values, err := metricsOf(ctx, v.Ops)
		if err != nil {
			return n, err
		}
		for name, value := range values {
			if strings.HasPrefix(name, "physalia_nodes_quarantined{") && strings.Contains(name, `reason="`+reason+`"`) {
				n += value
			}
		}
	}
	return n, nil
}

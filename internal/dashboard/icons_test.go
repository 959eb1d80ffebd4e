package dashboard_test

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// appIcons are the icons of the app: those that a system shows as they are, and those of which it shows any part with at
// least a circle of four fifths of their width.
var appIcons = map[string]struct {
	size int
	logo float64 // width of the logo as a fraction of the icon's; the rest of an icon with less than 1 has its colour
}{
	"192.png": {192, 1}, "512.png": {512, 1}, "maskable.png": {512, 0.8}, "apple-touch.png": {180, 0.9},
}

// TestIcons checks that each icon shows the logo of favicon.svg. With KUBEAGENTS_ICONS=write, it writes them first.
func TestIcons(t *testing.T) {
	in := openBrowser(t)
	ctx, cancel := chromedp.NewContext(in)
	t.Cleanup(cancel)
	logo := get(newDashboard(t).Icon, "/favicon.svg").Body.String()
	for name, icon := range appIcons {
		html := fmt.Sprintf(`<!doctype html><body style="margin:0"><img style="display:block;width:%[1]gpx;padding:%[2]gpx" src="data:image/svg+xml,%[3]s">`,
			float64(icon.size)*icon.logo, float64(icon.size)*(1-icon.logo)/2, url.PathEscape(logo))
		background := cdp.RGBA{R: 0x4f, G: 0x46, B: 0xe5, A: 1}
		if icon.logo == 1 {
			background.A = 0.001 // 0 would be left out
		}
		require.NoError(t, chromedp.Do(ctx,
			call(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: int64(icon.size), Height: int64(icon.size), DeviceScaleFactor: 1}),
			call(emulation.SetDefaultBackgroundColorOverride, emulation.SetDefaultBackgroundColorOverrideParams{Color: &background}),
			chromedp.Navigate("data:text/html,"+url.PathEscape(html))))
		shot, err := chromedp.Call(ctx, page.CaptureScreenshot, page.CaptureScreenshotParams{Format: "png"})
		require.NoError(t, err)
		want, err := png.Decode(bytes.NewReader(shot.Data))
		require.NoError(t, err)
		path := filepath.Join("web", "icons", name)
		if os.Getenv("KUBEAGENTS_ICONS") == "write" {
			var b bytes.Buffer
			require.NoError(t, (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, want))
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
			require.NoError(t, os.WriteFile(path, b.Bytes(), 0o644))
		}
		assert.Less(t, difference(want, readIcon(t, name)), 0.01, "%s does not show the logo: KUBEAGENTS_ICONS=write makes it anew", name)
	}
}

// TestIconsFillTheirPlace checks the size of each icon, and that those that a system cuts into its own shape have no
// transparent corners.
func TestIconsFillTheirPlace(t *testing.T) {
	for name, icon := range appIcons {
		picture := readIcon(t, name)
		assert.Equal(t, image.Rect(0, 0, icon.size, icon.size), picture.Bounds(), name)
		for _, x := range []int{0, icon.size - 1} {
			for _, y := range []int{0, icon.size - 1} {
				corner := color.NRGBAModel.Convert(picture.At(x, y)).(color.NRGBA)
				if icon.logo == 1 {
					assert.Zero(t, corner.A, name)
				} else {
					assert.Equal(t, color.NRGBA{0x4f, 0x46, 0xe5, 0xff}, corner, "%s at %d, %d", name, x, y)
				}
			}
		}
	}
}

func readIcon(t *testing.T, name string) image.Image {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("web", "icons", name))
	require.NoError(t, err)
	picture, err := png.Decode(bytes.NewReader(b))
	require.NoError(t, err)
	return picture
}

// difference returns the mean difference of two pictures' pixels, from 0 to 1. Browsers don't draw edges alike.
func difference(a, b image.Image) float64 {
	if a.Bounds() != b.Bounds() {
		return 1
	}
	sum, bounds := 0, a.Bounds()
	for y := range bounds.Dy() {
		for x := range bounds.Dx() {
			p, q := color.NRGBAModel.Convert(a.At(x, y)).(color.NRGBA), color.NRGBAModel.Convert(b.At(x, y)).(color.NRGBA)
			for _, d := range []int{int(p.R) - int(q.R), int(p.G) - int(q.G), int(p.B) - int(q.B), int(p.A) - int(q.A)} {
				sum += max(d, -d)
			}
		}
	}
	return float64(sum) / float64(4*255*bounds.Dx()*bounds.Dy())
}

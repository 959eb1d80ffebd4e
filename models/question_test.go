package models_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
)

// TestQuestionLimits validates questions at their limits and one above.
func TestQuestionLimits(t *testing.T) {
	choices := func(n, length int) []string {
		all := make([]string, n)
		for i := range all {
			all[i] = strings.Repeat("ä", length)
		}
		return all
	}
	for field, q := range map[string][2]models.Question{
		"question.text":    {{Text: strings.Repeat("ä", models.MaxMessage)}, {Text: strings.Repeat("ä", models.MaxMessage+1)}},
		"question.content": {{Content: strings.Repeat("a", models.MaxQuestionContent)}, {Content: strings.Repeat("a", models.MaxQuestionContent+1)}},
		"question.choices": {{Choices: choices(models.MaxChoices, models.MaxChoice)}, {Choices: choices(models.MaxChoices+1, 1)}},
	} {
		for i := range q {
			q[i].Kind = models.QuestionKind(1)
		}
		require.NoError(t, q[0].Validate(), field)
		var fault *models.Error
		require.ErrorAs(t, q[1].Validate(), &fault, field)
		require.Equal(t, field, fault.Field)
		require.Equal(t, models.CodeBadRequest, fault.Code)
	}
}

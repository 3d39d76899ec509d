"""Open-loop replay of a workload against anything that speaks the OpenAI API, and the recorder of what came back."""

"""Chart options (Apache ECharts, JSON only) as pure functions of answers' records."""

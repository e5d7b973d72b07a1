"""The routes, a file for each subject. A route translates; it holds no rule (docs/spec/http.md).

Each file has `router: fastapi.APIRouter`; each route says what it `needs(…)`.
"""

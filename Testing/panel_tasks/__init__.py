"""Tasks for the tests of the panel; found through MEDIMGAI_EXTRA_LIBRARIES."""
